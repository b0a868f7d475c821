//! What an answer and its headers mean (RFC 9110, 9111).

use crate::exchange::Got;
use crate::rows;
use larder_source::{Answer, Cell, Failure, FailureKind, Validator};
use larder_source_net::{refused, unfit};

/// The rows of an answer, or that nothing has changed.
pub fn read(got: &Got, was_asked: bool) -> Result<Answer, Failure> {
    let fresh_ms = fresh_ms(got);
    if got.status == 304 && was_asked {
        return Ok(Answer::Unchanged { fresh_ms });
    }
    if matches!(got.status, 404 | 410) {
        return Ok(Answer::Rows { rows: rows(None), fresh_ms, validator: None });
    }
    check_status(got.status, got)?;
    if got.status == 206 {
        return Err(unfit("the origin sent a part of what was asked for"));
    }
    let by = |name: &&str| !name.eq_ignore_ascii_case("accept-encoding");
    if let Some(name) = got.list("vary").into_iter().find(by) {
        return Err(refused(format!("the answer varies by {name}, and one key stands for one answer")));
    }
    if let Some(coding) =
        got.list("content-encoding").into_iter().find(|name| !name.eq_ignore_ascii_case("identity"))
    {
        return Err(unfit(format!("the answer is encoded as {coding}, which was not asked for")));
    }
    let validator = match (got.header("etag"), got.header("last-modified")) {
        (Some(tag), _) => Some(Validator::Tag(tag.to_owned())),
        (None, Some(date)) => Some(Validator::Modified(date.to_owned())),
        (None, None) => None,
    };
    Ok(Answer::Rows { rows: rows(Some(cell(got))), fresh_ms, validator })
}

/// Whether the origin did what was asked.
pub fn check_status(status: u16, got: &Got) -> Result<(), Failure> {
    let kind = match status {
        200..=299 => return Ok(()),
        429 | 500..=599 | 408 | 425 => FailureKind::Busy,
        _ => FailureKind::Refused,
    };
    let told = got
        .header("retry-after")
        .map(|after| format!(", to be asked again after {after}"))
        .unwrap_or_default();
    Err(Failure::new(kind, format!("the origin answers with status {status}{told}")))
}

fn cell(got: &Got) -> Cell {
    let media = got.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let bytes = got.body.as_slice().into();
    if std::str::from_utf8(&got.body).is_err() {
        Cell::Bytes(bytes)
    } else if media == "application/json" || media.ends_with("+json") {
        Cell::Json(bytes)
    } else if media.starts_with("text/") || media.ends_with("xml") {
        Cell::Text(bytes)
    } else {
        Cell::Bytes(bytes)
    }
}

/// How long the answer is fresh, if the origin says so.
fn fresh_ms(got: &Got) -> Option<u64> {
    let mut age_max: Option<u64> = None;
    let mut shared: Option<u64> = None;
    for directive in got.list("cache-control") {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = || value.trim().trim_matches('"').parse().unwrap_or(0);
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" | "private" => return Some(0),
            "max-age" => age_max = Some(seconds()),
            "s-maxage" => shared = Some(seconds()),
            _ => {}
        }
    }
    let age: u64 = got.header("age").and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(shared.or(age_max)?.saturating_sub(age).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(headers: &[(&str, &str)]) -> Got {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Got { status: 200, headers, body: b"{}".to_vec() }
    }

    #[test]
    fn freshness_is_that_of_a_shared_cache() {
        for (control, age, expected) in [
            ("max-age=60", "10", Some(50_000)),
            ("max-age=60, s-maxage=\"20\"", "0", Some(20_000)),
            ("public", "0", None),
            ("MAX-AGE=60, No-Store", "0", Some(0)),
            ("max-age=5", "60", Some(0)),
            ("max-age=wrong", "0", Some(0)),
        ] {
            assert_eq!(fresh_ms(&got(&[("cache-control", control), ("age", age)])), expected, "{control}");
        }
    }

    #[test]
    fn an_answer_that_varies_is_refused() {
        assert!(read(&got(&[("vary", "Accept-Encoding")]), false).is_ok());
        for vary in ["Cookie", "accept-encoding, Accept-Language", "*"] {
            assert_eq!(
                read(&got(&[("vary", vary)]), false).unwrap_err().kind,
                FailureKind::Refused,
                "{vary}"
            );
        }
    }
}
