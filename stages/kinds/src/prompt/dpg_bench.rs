//! DPG-Bench's file: a row of CSV for each question, those of a prompt one after another.
//!
//! Columns of `dpg_bench/dpg_bench.csv` of TencentQQGYLab/ELLA at 3c228f1: `item_id`, `text`, `keywords`, `proposition_id`, `dependency`,
//! `category_broad`, `category_detailed`, `tuple`, `question_natural_language`.

use opdflow_io::csv;
use opdflow_rewards::questions::Question;
use std::collections::{BTreeMap, BTreeSet};

/// How the file begins.
pub const HEAD: &str = "item_id,text,";

/// The columns that are read.
const COLUMNS: [&str; 6] =
    ["item_id", "text", "proposition_id", "dependency", "category_broad", "question_natural_language"];

/// A prompt of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The row of its first question, from 1, the head's too.
    pub row: usize,
    /// Its words.
    pub text: String,
    /// What is asked about its image.
    pub questions: Vec<Question>,
}

/// A row of the file.
struct Row {
    row: usize,
    item: String,
    text: String,
    /// The question's number among its prompt's.
    number: u64,
    after: Vec<u64>,
    about: String,
    question: String,
}

/// The prompts of the file with their questions.
///
/// # Errors
/// The first thing that is wrong, with its row.
pub fn read(text: &str) -> Result<Vec<Item>, (usize, String)> {
    let rows = csv::read(text).map_err(|e| (1, e.to_string()))?;
    let head = rows.first().ok_or((1, "there is none".to_owned()))?;
    let place = |name: &str| head.iter().position(|h| h == name).ok_or((1, format!("there is no column `{name}`")));
    let places = COLUMNS.map(place);
    let mut items: Vec<Vec<Row>> = Vec::new();
    let mut met = BTreeSet::new();
    for (i, fields) in rows.iter().enumerate().skip(1) {
        let row = i + 1;
        let field = |n: usize| -> Result<&str, (usize, String)> {
            let at = places[n].as_ref().map_err(Clone::clone)?;
            fields.get(*at).map(|field| field.trim()).ok_or((row, format!("it has no `{}`", COLUMNS[n])))
        };
        let number = |text: &str, of: &str| {
            text.trim().parse::<u64>().map_err(|_| (row, format!("`{of}` is `{text}`, expected a whole number")))
        };
        let after = field(3)?.split(',').map(|one| number(one, COLUMNS[3])).collect::<Result<Vec<_>, _>>()?;
        let found = Row {
            row,
            item: field(0)?.to_owned(),
            text: field(1)?.to_owned(),
            number: number(field(2)?, COLUMNS[2])?,
            // 0 stands for none.
            after: after.into_iter().filter(|parent| *parent > 0).collect(),
            about: field(4)?.to_owned(),
            question: field(5)?.to_owned(),
        };
        match items.last_mut().filter(|item| item[0].item == found.item) {
            Some(item) => item.push(found),
            None if met.insert(found.item.clone()) => items.push(vec![found]),
            None => return Err((row, format!("`{}` stands in two places: its rows belong together", found.item))),
        }
    }
    if items.is_empty() {
        return Err((1, "no question follows".to_owned()));
    }
    items.into_iter().map(of_item).collect()
}

/// The prompt of these rows.
fn of_item(rows: Vec<Row>) -> Result<Item, (usize, String)> {
    let (first, text) = (rows[0].row, rows[0].text.clone());
    let places: BTreeMap<u64, usize> = rows.iter().enumerate().map(|(place, row)| (row.number, place)).collect();
    if places.len() < rows.len() {
        return Err((first, format!("`{}` has two questions of one `proposition_id`", rows[0].item)));
    }
    let mut questions = Vec::with_capacity(rows.len());
    for row in rows {
        if row.text != text {
            return Err((row.row, format!("`{}` has another text than in row {first}", row.item)));
        }
        let parent = |parent: &u64| {
            let lacks = || (row.row, format!("`dependency` names {parent}, which is no question of `{}`", row.item));
            places.get(parent).copied().ok_or_else(lacks)
        };
        let after = row.after.iter().map(parent).collect::<Result<_, _>>()?;
        questions.push(Question { question: row.question, answer: "yes".to_owned(), about: row.about, after });
    }
    Ok(Item { row: first, text, questions })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: &str = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n";

    fn of(rows: &str) -> Result<Vec<Item>, String> {
        read(&format!("{HEADS}{rows}")).map_err(|(row, why)| format!("row {row}: {why}"))
    }

    #[test]
    fn questions_are_gathered_by_prompt() {
        let found = of("a,\"a red, big cat\",k,1,0,entity,whole,entity - whole (cat),Is there a cat?\n\
                        a,\"a red, big cat\",k,2,1,attribute,color,\"attribute - color (cat, red)\",Is the cat red?\n\
                        b,two dogs,k,1,0,other,count,other - count (dogs),Are there two dogs?\n")
        .unwrap();
        assert_eq!(
            found.iter().map(|e| (e.row, e.text.as_str())).collect::<Vec<_>>(),
            [(2, "a red, big cat"), (4, "two dogs")]
        );
        let [first, second] = &found[0].questions[..] else { panic!("{found:?}") };
        assert_eq!(
            (first.question.as_str(), first.about.as_str(), first.after.len()),
            ("Is there a cat?", "entity", 0)
        );
        assert_eq!((second.answer.as_str(), second.after.as_slice()), ("yes", &[0][..]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_row() {
        let row = |number: &str, after: &str| format!("a,x,k,{number},{after},c,d,t,Is it?\n");
        for (rows, says) in [
            (String::new(), "no question follows"),
            (row("1", "2"), "row 2: `dependency` names 2"),
            (row("one", "0"), "`proposition_id` is `one`"),
            (row("1", "x"), "`dependency` is `x`"),
            (row("1", "0") + &row("1", "0"), "two questions of one"),
            (row("1", "0") + "a,y,k,2,0,c,d,t,Is it?\n", "row 3: `a` has another text"),
            (row("1", "0") + "b,y,k,1,0,c,d,t,Is it?\n" + &row("2", "0"), "row 4: `a` stands in two places"),
            ("a,x,k\n".to_owned(), "it has no `dependency`"),
        ] {
            assert!(of(&rows).unwrap_err().contains(says), "{rows}: {:?}", of(&rows));
        }
        let lacking = read("item_id,text,tuple\na,x,y\n").unwrap_err();
        assert!(lacking.1.contains("no column `dependency`"), "{lacking:?}");
    }
}
