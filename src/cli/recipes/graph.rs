//! `opdflow graph`: which stage reads from which. Looks into no store.

use crate::cli::{Exit, Failure, Session, args};
use crate::report::sketch::Sketch;
use crate::report::svg::svg;

pub(crate) fn run(session: &Session, args: &args::Graph) -> Result<Exit, Failure> {
    let plan = session.survey(&args.recipe)?;
    let terminal = args.format == args::Drawing::Text && !session.json;
    let sketch = Sketch::of(&plan, args.fold || (terminal && !args.cells));
    let text = match args.format {
        _ if session.json => sketch.json().to_string(),
        args::Drawing::Text => sketch.lines(),
        args::Drawing::Dot => sketch.dot(),
        args::Drawing::Svg => svg(&sketch),
    };
    session.print(text.trim_end());
    Ok(Exit::Done)
}
