//! Statements: a method, a path, and what is sent.

use larder_source::{Failure, Parameter, Piece, Template};
use larder_source_net::{encode, refused, unfit};

/// A statement taken apart.
#[derive(Debug, PartialEq)]
pub struct Statement {
    pub method: &'static str,
    path: Vec<Part>,
    body: Option<Vec<Part>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Name(usize),
}

const METHODS: &[&str] = &["GET", "PUT", "POST", "PATCH", "DELETE"];

impl Statement {
    /// Asks for nothing but a sign of life.
    pub fn head() -> Statement {
        Statement { method: "HEAD", path: vec![Part::Text("/".to_owned())], body: None }
    }

    /// Takes a template apart: `[METHOD] /path [what is sent]`.
    ///
    /// # Errors
    /// It is not of this form: where.
    pub fn parse(template: &Template) -> Result<Statement, Failure> {
        let mut parts: Vec<Part> = template
            .pieces()
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Part::Text(text.clone()),
                Piece::Name(place) => Part::Name(*place),
            })
            .collect();
        let mut method = "GET";
        let mut at = 0;
        if let Some(Part::Text(text)) = parts.first_mut() {
            let trimmed = text.trim_start();
            at = text.len() - trimmed.len();
            let (word, rest) = trimmed.split_once(' ').unwrap_or(("", trimmed));
            if let Some(known) = METHODS.iter().find(|known| known.eq_ignore_ascii_case(word)) {
                method = known;
                at += trimmed.len() - rest.trim_start().len();
                *text = rest.trim_start().to_owned();
            } else {
                *text = trimmed.to_owned();
            }
        }
        if !matches!(parts.first(), Some(Part::Text(text)) if text.starts_with('/')) {
            let what = "a statement is [GET|PUT|POST|PATCH|DELETE] and a path that begins with '/'";
            return Err(refused(what).at(at));
        }
        let (mut path, mut body) = (Vec::new(), None);
        for part in parts {
            match (&mut body, part) {
                (None, Part::Text(text)) => match text.split_once(char::is_whitespace) {
                    None => path.push(Part::Text(text)),
                    Some((before, behind)) => {
                        path.push(Part::Text(before.to_owned()));
                        body = Some(vec![Part::Text(behind.trim_start().to_owned())]);
                    }
                },
                (None, name) => path.push(name),
                (Some(body), part) => body.push(part),
            }
        }
        // Only a blank at the end is nothing to send.
        let body = body.filter(|body| body.iter().any(|part| *part != Part::Text(String::new())));
        let statement = Statement { method, path, body };
        if statement.body.is_some() && !matches!(method, "PUT" | "POST" | "PATCH") {
            return Err(refused(format!("{method} sends nothing: there must be nothing behind the path")));
        }
        if statement.path.iter().any(|part| matches!(part, Part::Text(text) if !is_path(text))) {
            return Err(refused("the path has a character that must be written as %XX, or a '#'").at(at));
        }
        Ok(statement)
    }

    /// Whether it changes the origin.
    pub fn changes(&self) -> bool {
        !matches!(self.method, "GET" | "HEAD")
    }

    pub fn deletes(&self) -> bool {
        self.method == "DELETE"
    }

    /// The path for these values.
    pub fn path(&self, values: &[Parameter]) -> Result<String, Failure> {
        let mut out = String::new();
        for part in &self.path {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Name(place) => {
                    let value = bytes_of(values.get(*place))?;
                    // As a segment of a path they would lead elsewhere, encoded or not.
                    if matches!(&*value, b"." | b"..") {
                        return Err(unfit("'.' and '..' cannot be asked for"));
                    }
                    encode(&value, &mut out);
                }
            }
        }
        Ok(out)
    }

    /// What is sent, if anything is.
    pub fn body(&self, values: &[Parameter]) -> Result<Option<Vec<u8>>, Failure> {
        let Some(body) = &self.body else { return Ok(None) };
        let mut out = Vec::new();
        for part in body {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Name(place) => out.extend_from_slice(&bytes_of(values.get(*place))?),
            }
        }
        Ok(Some(out))
    }
}

fn is_path(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte))
}

fn bytes_of(value: Option<&Parameter>) -> Result<Vec<u8>, Failure> {
    Ok(match value {
        Some(Parameter::Text(text) | Parameter::Uuid(text)) => text.as_bytes().to_vec(),
        Some(Parameter::Bytes(bytes)) => bytes.to_vec(),
        Some(Parameter::Integer(number)) => number.to_string().into_bytes(),
        Some(Parameter::Number(number)) => number.to_string().into_bytes(),
        Some(Parameter::Null) => return Err(unfit("nothing (NULL) has no form in a request")),
        Some(Parameter::List(_)) => return Err(unfit("an HTTP origin is asked for one key at a time")),
        None => return Err(unfit("a name without a value")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_source::Language;

    fn parse(text: &str) -> Result<Statement, Failure> {
        Statement::parse(&Template::parse(text, Language::Plain).unwrap())
    }

    fn value(text: &str) -> Parameter {
        Parameter::Text(text.into())
    }

    #[test]
    fn statements_are_taken_apart() {
        let statement = parse("/users/$id/$part?x=$id").unwrap();
        assert_eq!(statement.method, "GET");
        assert_eq!(
            statement.path(&[value("a/b c"), value("\u{e9}")]).unwrap(),
            "/users/a%2Fb%20c/%C3%A9?x=a%2Fb%20c"
        );
        assert!(statement.path(&[value(".."), value("x")]).is_err());
        let statement = parse("put /users/$id {\"name\": \"$name\"}").unwrap();
        assert_eq!((statement.method, statement.changes()), ("PUT", true));
        let body = statement.body(&[value("1"), value("Ann")]).unwrap();
        assert_eq!(body.as_deref(), Some(b"{\"name\": \"Ann\"}".as_slice()));
        let statement = parse("POST /users $body").unwrap();
        assert_eq!(statement.body(&[Parameter::Bytes([0, 1].into())]).unwrap(), Some(vec![0, 1]));
        assert_eq!(parse("DELETE /users/$id").unwrap().body(&[]).unwrap(), None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, position) in [
            ("FETCH /x", Some(0)),
            ("$id", Some(0)),
            ("GET users", Some(4)),
            ("GET /x y", None),
            ("/a#b", Some(0)),
        ] {
            let failure = parse(text).unwrap_err();
            assert_eq!(failure.position, position, "{text}: {failure}");
        }
    }
}
