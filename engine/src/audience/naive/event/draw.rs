//! Random purchases, and conditions on them.

use super::{COUPON, Event, HOUR, NOW, local_hour};
use crate::audience::expr::{CompareOp, Did, Expr, ExprKind, Figure, FigureTest, Literal, Test};
use crate::audience::naive::Random;
use crate::behavior::calendar::Date;

const COUPONS: [&str; 3] = ["X", "y", "it's"];
const CATEGORIES: [&str; 4] = ["shoes", "hats", "it's", ""];

impl Random {
    /// A purchase of the last months, more likely of the last days.
    pub fn event(&mut self) -> Event {
        let hours = if self.one_in(2) { self.below(80) } else { self.below(24 * 80) };
        Event {
            ts: NOW - hours as i64 * HOUR - self.below(HOUR as u64) as i64,
            category: (!self.one_in(5)).then(|| self.of(&CATEGORIES).to_owned()),
            level: (!self.one_in(5)).then(|| self.below(3) as i64 - 1),
            gift: (!self.one_in(5)).then(|| self.one_in(2)),
            amount: (!self.one_in(5)).then(|| self.below(400) as i64 - 150),
            rating: (!self.one_in(3)).then(|| self.below(40) as i64 - 10),
            coupon: self.one_in(3).then(|| self.of(&COUPONS).to_owned()),
        }
    }

    /// A condition on purchases, half of them such as the index covers.
    pub fn did(&mut self) -> Did {
        let mut did = self.covered_did();
        if self.one_in(2) {
            return did;
        }
        did.exact_window = did.within.is_some() && self.one_in(3);
        if did.within.is_some() && self.one_in(4) {
            did.within = Some(format!("{} hours", 40 + self.below(100)));
        }
        for _ in 0..1 + self.below(2) {
            let condition = self.searched(2);
            did.events.push(condition);
        }
        for test in &mut did.figures {
            if matches!(test.figure, Figure::Sum(_)) && self.one_in(2) {
                test.figure = Figure::Sum(self.of(&["level", "rating"]).to_owned());
            }
            if matches!(test.figure, Figure::First | Figure::Last) && self.one_in(2) {
                test.test = Test::Compare(self.order(), self.instant());
            }
        }
        did
    }

    /// A condition on an event that may be any.
    fn searched(&mut self, depth: u32) -> Expr {
        let several =
            |random: &mut Random| -> Vec<Expr> { (0..2).map(|_| random.searched(depth.saturating_sub(1))).collect() };
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => self.event_condition(),
            1..=5 => self.comparison(),
            6 => ExprKind::And(several(self)).into(),
            7 => ExprKind::Or(several(self)).into(),
            _ => ExprKind::Not(Box::new(self.searched(depth - 1))).into(),
        }
    }

    fn comparison(&mut self) -> Expr {
        let columns = ["category", "amount", "level", "rating", COUPON, "undeclared.extra.n.\"1\"", "ts"];
        let tag = self.of(&columns).to_owned();
        let negated = self.one_in(3);
        let literal = |random: &mut Random| match tag.as_str() {
            "category" => Literal::Text(random.of(&CATEGORIES).to_owned()),
            "amount" => Literal::Number(format!("{}.{:03}", random.below(3), random.below(100) * 5)),
            "level" => Literal::Number((random.below(3) as i64 - 1).to_string()),
            COUPON => Literal::Text(random.of(&COUPONS).to_owned()),
            "ts" if random.one_in(2) => random.instant(),
            "ts" => random.date(),
            _ => Literal::Number(format!("{}.{}", random.below(5), random.of(&["0", "25", "3", "5"]))),
        };
        match self.below(6) {
            0 => ExprKind::IsNull { tag, negated }.into(),
            1 => {
                let values = (0..1 + self.below(3)).map(|_| literal(self)).collect();
                ExprKind::In { tag, values, negated }.into()
            }
            2 => {
                let (low, high) = (literal(self), literal(self));
                ExprKind::Between { tag, low, high, negated }.into()
            }
            3 => {
                use CompareOp::{Equal, IsDistinctFrom, IsNotDistinctFrom, NotEqual};
                let op = [Equal, NotEqual, IsDistinctFrom, IsNotDistinctFrom][self.below(4) as usize];
                ExprKind::Compare { op, value: literal(self), tag }.into()
            }
            _ => ExprKind::Compare { op: self.order(), value: literal(self), tag }.into(),
        }
    }

    /// A time of the last days.
    fn instant(&mut self) -> Literal {
        let span = if self.one_in(2) { 100_000 } else { 6_000_000 };
        let seconds = NOW / 1_000_000 - self.below(span) as i64;
        let (day, left) = (Date::of(seconds.div_euclid(86_400)), seconds.rem_euclid(86_400));
        Literal::Text(format!("{day}T{:02}:{:02}:{:02}Z", left / 3_600, left / 60 % 60, left % 60))
    }

    fn covered_did(&mut self) -> Did {
        let mut did = Did {
            fact: "purchase".to_owned(),
            events: Vec::new(),
            figures: Vec::new(),
            within: None,
            exact_window: false,
        };
        if self.one_in(2) {
            did.events.push(self.event_condition());
        }
        if self.one_in(4) {
            let (tag, op) = ("ts".to_owned(), self.order());
            did.events.push(ExprKind::Compare { tag, op, value: self.date() }.into());
        }
        if self.one_in(2) {
            did.within = Some(if self.one_in(3) {
                format!("{} hours", 1 + self.below(48))
            } else {
                format!("{} days", 1 + self.below(70))
            });
        }
        for _ in 0..self.below(3) {
            let figure = self.figure_test();
            did.figures.push(figure);
        }
        did
    }

    fn event_condition(&mut self) -> Expr {
        let category = || "category".to_owned();
        let text = |random: &mut Random| Literal::Text(random.of(&CATEGORIES).to_owned());
        match self.below(7) {
            0 => ExprKind::Flag("gift".to_owned()).into(),
            1 => {
                let op = if self.one_in(2) { CompareOp::Equal } else { CompareOp::NotEqual };
                ExprKind::Compare {
                    tag: "level".to_owned(),
                    op,
                    value: Literal::Number((self.below(3) as i64 - 1).to_string()),
                }
                .into()
            }
            2 => ExprKind::Not(Box::new(
                ExprKind::Compare { tag: category(), op: CompareOp::Equal, value: text(self) }.into(),
            ))
            .into(),
            3 => ExprKind::IsNull { tag: category(), negated: true }.into(),
            4 => {
                let values = (0..1 + self.below(3)).map(|_| text(self)).collect();
                ExprKind::In { tag: category(), values, negated: self.one_in(3) }.into()
            }
            5 => {
                let values = vec![text(self), text(self)];
                ExprKind::Or(vec![
                    ExprKind::In { tag: category(), values, negated: self.one_in(2) }.into(),
                    ExprKind::Compare { tag: category(), op: CompareOp::Equal, value: text(self) }.into(),
                ])
                .into()
            }
            _ => ExprKind::Compare { tag: category(), op: CompareOp::Equal, value: text(self) }.into(),
        }
    }

    fn figure_test(&mut self) -> FigureTest {
        let negated = self.one_in(4);
        let op =
            if self.one_in(4) { if negated { CompareOp::NotEqual } else { CompareOp::Equal } } else { self.order() };
        let figure = match self.below(8) {
            0..=3 => Figure::Count,
            4 | 5 => Figure::Sum("amount".to_owned()),
            6 => Figure::First,
            _ => Figure::Last,
        };
        let literal = |random: &mut Random| match figure {
            Figure::Count => Literal::Number((random.below(6) as i64 - 1).to_string()),
            Figure::Sum(_) => Literal::Number(format!(
                "{}{}.{:02}",
                if random.one_in(3) { "-" } else { "" },
                random.below(4),
                random.below(100)
            )),
            _ => random.date(),
        };
        let test = if self.one_in(4) {
            Test::Between { low: literal(self), high: literal(self), negated }
        } else {
            Test::Compare(op, literal(self))
        };
        FigureTest { figure, test }
    }

    fn order(&mut self) -> CompareOp {
        use CompareOp::{Greater, GreaterOrEqual, Less, LessOrEqual};
        [Less, LessOrEqual, Greater, GreaterOrEqual][self.below(4) as usize]
    }

    fn date(&mut self) -> Literal {
        Literal::Text(match self.below(3) {
            0 => format!("{} days ago", 1 + self.below(70)),
            1 => format!("{} hours ago", 1 + self.below(40)),
            _ => Date::of(local_hour(NOW).div_euclid(24) - self.below(80) as i64).to_string(),
        })
    }
}
