//! `POST /v1/translate`: an expression in both of its forms, text and tree.
//!
//! For editors that show one and keep the other in step. Names and types are not looked at, so what is half written translates, too;
//! asking with the text tells what is wrong with them, and where, and `conditions` tells which condition of the tree stands there.

use super::expression::Where;
use super::tree::to_json;
use crate::error::Failure;
use crate::rest::body::JsonBody;
use crate::rest::limits;
use crate::rest::router::Answer;
use axum::Json;
use engine::audience::expr::{Expr, ExprKind};
use engine::audience::parse::parse;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to translate.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"where": {"all": [{"tag": "gender", "is": "f"}, {"tag": "age", "between": [25, 34]}]}}))]
pub struct TranslateRequest {
    /// The expression, as text or as a tree.
    pub r#where: Where,
}

/// An expression in both forms.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TranslateAnswer {
    /// Its canonical text.
    pub r#where: String,
    /// Its tree; `true` and `false` are trees, too.
    #[schema(value_type = serde_json::Value)]
    pub tree: Value,
    /// Where in the canonical text each condition stands, in the order in which they stand there. What is joined by `all`, `any`,
    /// `not`, `xor` and `at_least` is apart, what stands in a `did` or `similar_to` is not.
    pub conditions: Vec<Place>,
}

/// Bytes `start..end` of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Place {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// Translates.
///
/// # Errors
/// [`Failure`] if the text is not in the grammar, or the tree is none.
pub fn answer(request: &TranslateRequest) -> Result<TranslateAnswer, Failure> {
    let expr = request.r#where.expr("/where")?;
    let text = expr.to_string();
    let mut conditions = Vec::new();
    // Only what was read from this text has places in it.
    let read = parse(&text).map_err(|error| Failure::from(error).at("/where"))?;
    places(&read, &mut conditions);
    Ok(TranslateAnswer { tree: to_json(&expr), r#where: text, conditions })
}

fn places(expr: &Expr, found: &mut Vec<Place>) {
    match &expr.kind {
        ExprKind::And(of) | ExprKind::Or(of) | ExprKind::AtLeast { of, .. } => {
            of.iter().for_each(|operand| places(operand, found));
        }
        ExprKind::Xor(a, b) => [a, b].into_iter().for_each(|operand| places(operand, found)),
        ExprKind::Not(of) => places(of, found),
        _ => found.push(Place { start: expr.span.start, end: expr.span.end }),
    }
}

/// Translates an expression: text to its tree, a tree to its canonical text.
// A body may be long, and the threads that serve connections are few.
#[utoipa::path(post, path = "/v1/translate", operation_id = "translate", tag = "questions", request_body = TranslateRequest,
    responses((status = 200, body = TranslateAnswer)))]
pub(in crate::rest) async fn post(JsonBody(request): JsonBody<TranslateRequest>) -> Answer<TranslateAnswer> {
    limits::blocking(move || answer(&request)).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::audience::naive::Random;
    use futures::FutureExt;

    #[test]
    fn conditions_stand_where_it_is_said() {
        let text = "a AND (b = 'x' OR NOT did('purchase', c = 'y')) AND at_least(1, d > 2, (e) XOR (f))";
        let told = answer(&TranslateRequest { r#where: text.into() }).expect("an expression");
        let conditions: Vec<&str> = told.conditions.iter().map(|at| &told.r#where[at.start..at.end]).collect();
        assert_eq!(conditions, ["a", "b = 'x'", "did('purchase', c = 'y')", "d > 2", "e", "f"]);
    }

    #[test]
    fn both_forms_say_the_same() {
        let mut random = Random::new(11);
        for _ in 0..500 {
            let expr = random.expression(4);
            let of_text = answer(&TranslateRequest { r#where: Where::Text(expr.to_string()) }).expect("a text");
            let of_tree = answer(&TranslateRequest { r#where: Where::Tree(of_text.tree.clone()) }).expect("a tree");
            assert_eq!((&of_tree.tree, of_tree.conditions.len()), (&of_text.tree, of_text.conditions.len()), "{expr}");
        }
    }

    /// The only thread for work that takes long is held, so the answer can only wait: it is not made by whoever polls for it.
    #[test]
    fn connections_are_not_held_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let (release, held) = std::sync::mpsc::channel::<()>();
            let holding = tokio::task::spawn_blocking(move || held.recv().is_err());
            let mut asking = std::pin::pin!(post(JsonBody(TranslateRequest { r#where: "a AND b".into() })));
            assert!(asking.as_mut().now_or_never().is_none(), "answered on the thread that asked");
            drop(release);
            assert!(holding.await.expect("it ends"), "released");
            assert_eq!(asking.await.expect("an answer").0.conditions.len(), 2);
        });
    }
}
