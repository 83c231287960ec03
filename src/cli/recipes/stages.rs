//! `opdflow stages`: the kinds of stage of this build, their ports and parameters.

use crate::cli::{Exit, Failure, Session, args};
use crate::recipe::reference::params;
use crate::report::kinds;
use opdflow_api::Kind;
use serde_json::{Value, json};

pub(crate) fn run(session: &Session, args: &args::Stages) -> Result<Exit, Failure> {
    let kinds: Vec<&dyn Kind> = match &args.kind {
        None => session.registry.kinds().map(AsRef::as_ref).collect(),
        Some(name) => {
            let Some(kind) = session.registry.get(name) else {
                if let Some(now) = session.registry.former(name).map(|kind| kind.describe().kind) {
                    let said = format!("the stage kind `{name}` is called `{now}` now");
                    return Err(Failure::Usage(format!("{said}\nhelp: opdflow stages {now}")));
                }
                let help = crate::recipe::hint(name, session.registry.names().collect::<Vec<_>>());
                let help = help.map_or(String::new(), |h| format!("\nhelp: {h}"));
                return Err(Failure::Usage(format!("there is no stage kind `{name}`{help}")));
            };
            vec![kind.as_ref()]
        }
    };
    if session.json {
        session.print(&Value::from_iter(kinds.into_iter().map(data)).to_string());
    } else if args.markdown {
        session.print(kinds::markdown(kinds).trim_end());
    } else if args.kind.is_none() && !args.all {
        session.print(kinds::list(kinds).trim_end());
    } else {
        let pages: Vec<String> = kinds.into_iter().map(kinds::page).collect();
        session.print(pages.join("\n").trim_end());
    }
    Ok(Exit::Done)
}

/// The description, with all that is known of the parameters in place of their names.
fn data(kind: &dyn Kind) -> Value {
    let mut about = json!(kind.describe());
    about["params"] = json!(params(kind));
    about
}
