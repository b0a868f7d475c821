//! Writes the reference servers' answers into transcripts: `larder-record FOLDER-OR-FILE ...`.
//! Invariant: only expectations change; what is sent is never touched.

#![forbid(unsafe_code)]

use larder_testkit::transcript::{Reference, Transcript};
use larder_testkit::{Redis82, Valkey, run};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match record_all(std::env::args().skip(1)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(problems) => {
            eprintln!("{problems} cases need a look");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("larder-record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn record_all(paths: impl Iterator<Item = String>) -> Result<usize, String> {
    let redis = Redis82::start()?;
    let valkey = Valkey::start()?;
    let mut problems = 0;
    for path in paths {
        for path in files(Path::new(&path))? {
            for (server, reference) in [(&redis, Reference::Redis82), (&valkey, Reference::Valkey91)] {
                let transcript = Transcript::load(&path)?;
                let failures = run::record(&transcript, &server.address(), reference)
                    .map_err(|error| error.to_string())?;
                problems += failures.len();
                failures.iter().for_each(|failure| eprintln!("{failure}"));
            }
        }
    }
    Ok(problems)
}

fn files(path: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    Ok(Transcript::load_folder(path)?.into_iter().map(|transcript| transcript.path).collect())
}
