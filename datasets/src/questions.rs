//! Questions to ask of each data set: what a marketer, or a curious reader, would want to know.

use crate::DataSet;

/// A question for the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// For people.
    pub title: &'static str,
    /// In the audience language.
    pub expression: &'static str,
}

/// At least eight questions that this data set can answer.
pub fn sample_questions(data_set: DataSet) -> &'static [Question] {
    match data_set {
        DataSet::Population => POPULATION,
        DataSet::OnlineRetail => ONLINE_RETAIL,
        DataSet::UciAdult => UCI_ADULT,
        DataSet::UciBank => UCI_BANK,
        DataSet::CompleteJourney => COMPLETE_JOURNEY,
        DataSet::Msweb => MSWEB,
    }
}

/// Questions about what users of this data set did; none if it has no events.
pub fn event_questions(data_set: DataSet) -> &'static [Question] {
    match data_set {
        DataSet::Population => POPULATION_EVENTS,
        DataSet::OnlineRetail => ONLINE_RETAIL_EVENTS,
        _ => &[],
    }
}

/// A question for users like others, by vectors that are made of what they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LikenessQuestion {
    /// For people.
    pub title: &'static str,
    /// Like whom, in the audience language.
    pub seed: &'static str,
    /// The columns of the fact that are the items.
    pub item: &'static [&'static str],
    /// How many numbers a vector has.
    pub dimension: u16,
}

/// The question of a data set that has events.
pub fn likeness_question(data_set: DataSet) -> Option<LikenessQuestion> {
    match data_set {
        DataSet::Population => Some(LikenessQuestion {
            title: "The 1 % most like those who bought sportswear",
            seed: "did('purchase', category = 'sportswear')",
            item: &["category", "channel"],
            dimension: 32,
        }),
        DataSet::OnlineRetail => Some(LikenessQuestion {
            title: "The 1 % most like buyers of the white hanging heart",
            seed: "did('purchase', product = '85123A', count >= 2)",
            item: &["product"],
            dimension: 64,
        }),
        _ => None,
    }
}

const POPULATION_EVENTS: &[Question] = &[
    ask("Bought shoes in the last 30 days", "did('purchase', category = 'shoes', within => '30 days')"),
    ask("Women who bought twice or more today", "gender = 'f' AND did('purchase', count >= 2, within => '1 day')"),
    ask("Members who spent 500 this week", "is_member AND did('purchase', sum(amount) >= 500, within => '7 days')"),
    ask("Big spenders of before who bought nothing now", "spend >= 1000 AND NOT did('purchase', within => '7 days')"),
];

const ONLINE_RETAIL_EVENTS: &[Question] = &[
    ask(
        "Bought on ten lines or more in November 2011",
        "did('purchase', ts BETWEEN '2011-11-01' AND '2011-11-30', count >= 10)",
    ),
    ask("The white hanging heart, more than once", "did('purchase', product = '85123A', count >= 2)"),
    ask("Took 1,000 pieces or more in all, kept", "did('purchase', sum(quantity) >= 1000)"),
    ask("First bought in 2011, silent since September", "did('purchase', first >= '2011-01-01', last < '2011-09-01')"),
];

const fn ask(title: &'static str, expression: &'static str) -> Question {
    Question { title, expression }
}

const POPULATION: &[Question] = &[
    ask("Women", "gender = 'f'"),
    ask(
        "Women of 25 to 34 around the Yangtze delta",
        "gender = 'f' AND age BETWEEN 25 AND 34 AND province IN ('zhejiang', 'jiangsu', 'shanghai')",
    ),
    ask("Runners or yogis who are no members", "(interest = 'running' OR interest = 'yoga') AND NOT is_member"),
    ask(
        "At least three of seven outdoor interests",
        "at_least(3, interest = 'running', interest = 'hiking', interest = 'camping', interest = 'cycling', interest = 'skiing', interest = 'fishing', interest = 'sailing')",
    ),
    ask("Spent 1,000 or more, silent since August", "spend >= 1000 AND last_active_at < '2026-08-01'"),
    ask("Whose gender is unknown", "gender IS NULL"),
    ask(
        "Reachable parents in big cities",
        "ads_consent AND interest = 'parenting' AND city_tier <= 2 AND last_active_at >= '2026-10-01'",
    ),
    ask("Buy shoes, but not for running", "category = 'shoes' AND NOT interest = 'running'"),
    ask("iOS users who never bought", "device = 'ios' AND spend IS NULL"),
    ask(
        "Heavy buyers of any of five categories",
        "orders >= 5 AND category IN ('cosmetics', 'womenswear', 'jewellery', 'baby', 'toys') AND device IS DISTINCT FROM 'web'",
    ),
];

const ONLINE_RETAIL: &[Question] = &[
    ask("Customers outside the United Kingdom", "country <> 'United Kingdom'"),
    ask("Big spenders: 5,000 pounds or more", "spend >= 5000"),
    ask("Bought in the last 30 days of the data", "recency_days <= 30"),
    ask("Lapsed: silent for half a year, once worth 1,000", "recency_days > 180 AND spend >= 1000"),
    ask("Baskets with tea and cake", "word = 'tea' AND word = 'cake'"),
    ask("Christmas shoppers who ordered once", "word = 'christmas' AND orders = 1"),
    ask(
        "Cancelled something, and still bought since November",
        "cancellations > 0 AND last_purchase_at >= '2011-11-01'",
    ),
    ask(
        "At least two of heart, star, lantern, cakestand",
        "at_least(2, word = 'heart', word = 'star', word = 'lantern', word = 'cakestand')",
    ),
    ask("Germany and France without postage", "country IN ('Germany', 'France') AND NOT product = 'POST'"),
    ask("Took back all they bought", "spend <= 0"),
];

const UCI_ADULT: &[Question] = &[
    ask("High income", "high_income"),
    ask("Women with a high income", "sex = 'Female' AND high_income"),
    ask("Work class unknown", "workclass IS NULL"),
    ask("Academics under 30", "education IN ('Bachelors', 'Masters', 'Doctorate') AND age < 30"),
    ask("Work more than 60 hours for 50K or less", "hours_per_week > 60 AND NOT high_income"),
    ask(
        "Self-employed, married, born abroad",
        "workclass IN ('Self-emp-inc', 'Self-emp-not-inc') AND marital_status = 'Married-civ-spouse' AND native_country <> 'United-States'",
    ),
    ask("At least two signs of wealth", "at_least(2, capital_gain > 5000, high_income, education_years >= 14)"),
    ask("Neither gains nor losses of capital", "capital_gain = 0 AND capital_loss = 0"),
];

const UCI_BANK: &[Question] = &[
    ask("Subscribed", "subscribed"),
    ask("Called on a mobile, subscribed", "contact = 'cellular' AND subscribed"),
    ask("Students and pensioners", "job IN ('student', 'retired')"),
    ask("Credit default unknown", "credit_default IS NULL"),
    ask("Contacted before with success", "previous_outcome = 'success' AND days_since_contact <= 14"),
    ask("Long calls without result", "call_seconds >= 600 AND NOT subscribed"),
    ask("No loan of any kind", "housing_loan = 'no' AND personal_loan = 'no'"),
    ask("Low rates and low confidence", "euribor_3_months < 1.5 AND consumer_confidence < -40"),
];

const COMPLETE_JOURNEY: &[Question] = &[
    ask("Households with known age", "age IS NOT NULL"),
    ask("Reached by campaign 18", "campaign = '18'"),
    ask("Reached by campaign 18, redeemed it", "campaign = '18' AND redeemed_campaign = '18'"),
    ask(
        "Reached by campaigns 13 and 18 but never redeemed them",
        "campaign = '13' AND campaign = '18' AND NOT redeemed_campaign IN ('13', '18')",
    ),
    ask("Families with kids and more than 100 spent", "kids_count <> '0' AND spend > 100"),
    ask(
        "Well-off home owners",
        "home_ownership = 'Homeowner' AND income IN ('100-124K', '125-149K', '150-174K', '175-199K', '200-249K', '250K+')",
    ),
    ask(
        "Buy meat and produce, no pastry",
        "department = 'MEAT' AND department = 'PRODUCE' AND NOT department = 'PASTRY'",
    ),
    ask(
        "At least two of the big campaigns, silent since October",
        "at_least(2, campaign = '8', campaign = '13', campaign = '18') AND last_purchase_at < '2017-10-01'",
    ),
];

const MSWEB: &[Question] = &[
    ask("Came for free downloads", "area = 'Free Downloads'"),
    ask("Support desktop, no downloads", "area = 'Support Desktop' AND NOT area = 'Free Downloads'"),
    ask("Internet Explorer and Windows 95", "area = 'Internet Explorer' AND area = 'Windows 95'"),
    ask("One visit", "visits = 1"),
    ask("Ten areas or more", "visits >= 10"),
    ask("Developers", "area IN ('MSDN', 'Visual Basic', 'Visual C', 'Developer Network')"),
    ask("At least two of three products", "at_least(2, area = 'MS Word', area = 'MS Excel', area = 'MS Access')"),
    ask("Neither search nor knowledge base", "NOT area IN ('Microsoft.com Search', 'Knowledge Base')"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_asked_in_the_language() {
        for set in DataSet::ALL {
            assert!(sample_questions(set).len() >= 8, "{}", set.name());
            for question in sample_questions(set) {
                let parsed = engine::audience::parse::parse(question.expression);
                assert!(parsed.is_ok(), "{}: {}: {parsed:?}", set.name(), question.expression);
            }
        }
    }
}
