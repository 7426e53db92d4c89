//! `layshaft admin`: a text command to Gearman servers, and the answers as a table or JSON.

mod table;

use crate::args::Admin;
use crate::remote::{self, told};
use crate::{EXIT_JOB_FAILED, EXIT_USAGE, complain};
use layshaft::gearman::{Client, ClientError, TextAnswer};
use serde_json::{Map, Value, json};
use std::io::{self, ErrorKind, Write};
use std::time::Instant;
use table::{Columns, Table, cell};

/// Runs the command; its exit code.
pub(crate) fn run(options: &Admin) -> u8 {
    let command = options.words.join(" ");
    let builder = remote::builder(&options.servers.list(), &options.servers.tls)
        .command_timeout(options.timeout)
        .connect_timeout(options.timeout);
    let client = match builder.start() {
        Ok(client) => client,
        Err(error) => {
            complain(io::stderr(), told(&error));
            return EXIT_USAGE;
        }
    };
    let answers = ask_all(&client, &command, options);
    let code = answers.iter().filter_map(|(_, answer)| answer.as_ref().err().map(remote::exit_code)).max().unwrap_or(0);
    let columns = Columns::of(&command);
    let text = if options.json { json_lines(&answers, &columns) } else { for_people(&answers, &columns) };
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(io::stderr(), format_args!("cannot write to standard output: {error}"));
            EXIT_JOB_FAILED
        }
        _ => code,
    }
}

type Answers = Vec<(String, Result<TextAnswer, ClientError>)>;

/// Asks all servers at once.
fn ask_all(client: &Client, command: &str, options: &Admin) -> Answers {
    let end = Instant::now().checked_add(options.timeout);
    let replies: Vec<_> = (0..client.servers().len()).map(|server| client.admin(server, command)).collect();
    let answers = replies.into_iter().zip(client.servers()).map(|(reply, address)| {
        let left = end.map_or(options.timeout, |end| end.saturating_duration_since(Instant::now()));
        let late = |_| Err(ClientError::Silent { server: address.to_string(), after: options.timeout });
        (address.to_string(), reply.wait_timeout(left).unwrap_or_else(late))
    });
    answers.collect()
}

/// Tables on standard output, errors on standard error.
fn for_people(answers: &Answers, columns: &Columns) -> String {
    let has_several = answers.len() > 1;
    let mut table = Table::new(has_several, columns);
    let mut lines = String::new();
    for (server, answer) in answers {
        match answer {
            Ok(answer @ TextAnswer::Rows(rows)) => match columns.split(answer, rows) {
                fields if fields.is_empty() && !has_several => {}
                fields => fields.into_iter().for_each(|fields| table.row(server, fields)),
            },
            Ok(TextAnswer::Line(line)) => {
                let line = if line.is_empty() { "ok".to_owned() } else { cell(line) };
                lines += &if has_several { format!("{server}  {line}\n") } else { format!("{line}\n") };
            }
            Ok(_) => {}
            Err(error) => complain(io::stderr(), told(error)),
        }
    }
    let has_table = answers.iter().any(|(_, answer)| matches!(answer, Ok(TextAnswer::Rows(_))));
    if has_table { lines + &table.print() } else { lines }
}

fn json_lines(answers: &Answers, columns: &Columns) -> String {
    let line = |(server, answer): &(String, Result<TextAnswer, ClientError>)| {
        let value = match answer {
            Ok(answer @ TextAnswer::Rows(rows)) => {
                let rows: Vec<Value> =
                    columns.split(answer, rows).into_iter().map(|row| object(columns, row)).collect();
                json!({ "server": server, "rows": rows })
            }
            Ok(TextAnswer::Line(line)) => json!({ "server": server, "answer": cell(line) }),
            Ok(_) => json!({ "server": server }),
            Err(error) => json!({ "server": server, "error": told(error) }),
        };
        format!("{value}\n")
    };
    answers.iter().map(line).collect()
}

/// Columns that are known have names, others are a list.
fn object(columns: &Columns, fields: Vec<String>) -> Value {
    let value = |text: String| text.parse::<u64>().map_or(Value::String(text), Value::from);
    if columns.names.len() != fields.len() {
        return fields.into_iter().map(value).collect();
    }
    let named = columns.names.iter().zip(fields).map(|(name, field)| {
        let is_name = matches!(*name, "function" | "id" | "ip" | "job" | "key" | "functions");
        ((*name).to_owned(), if is_name { Value::String(field) } else { value(field) })
    });
    Value::Object(named.collect::<Map<_, _>>())
}
