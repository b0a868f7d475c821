//! The words of EVAL.

use larder_commands::{Args, keys_of};
use larder_resp::{Output, Protocol, Reply, Span};
use larder_script::{Compiled, Ended, Engine, Host, Info, Verdict, Words};
use larder_server::fuzz::{eval_keys, eval_spec};

/// The words of EVAL, separated by zero bytes, the number of keys first: the number is refused, or a script finds so many keys and the
/// rest as arguments, and who asks for the command's keys finds the same ones.
pub fn eval(bytes: &[u8]) {
    let words: Vec<&[u8]> =
        [&b"EVAL"[..], b"script"].into_iter().chain(bytes.split(|byte| *byte == 0)).collect();
    let mut start = 0;
    let spans: Vec<Span> = words
        .iter()
        .map(|word| {
            let span = Span { start, len: word.len() as u32 };
            start += span.len;
            span
        })
        .collect();
    let all = words.concat();
    let args = Args::new(&all, &spans);
    let rest = words.get(3..).unwrap_or_default();
    let number = words.get(2).copied().unwrap_or_default();
    // As the number is written, and in no other way.
    let said = (0..=rest.len()).find(|count| count.to_string().as_bytes() == number);
    let keys = eval_keys(&args).ok();
    assert_eq!(keys, said, "{}", number.escape_ascii());
    let found = keys_of(eval_spec(), &args);
    let found = found.map(|keys| keys.iter().map(|key| key.index as usize).collect::<Vec<_>>());
    match keys {
        None => assert!(found.is_err(), "keys are found where none can be"),
        // No keys and a wrong number of them are the same to who looks for keys.
        Some(0) => assert!(found.unwrap_or_default().is_empty()),
        Some(count) => assert_eq!(found.ok(), Some((3..3 + count).collect())),
    }
    let Some(count) = keys else { return };
    let (keys, arguments) = rest.split_at(count);
    let mut expected = b"*2\r\n".to_vec();
    for words in [keys, arguments] {
        expected.extend(format!("*{}\r\n", words.len()).into_bytes());
        for word in words {
            expected.extend([format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
        }
    }
    WORDS.with(|(engine, scripts)| {
        for script in scripts {
            let mut out = Output::default();
            let mut reply = Reply::new(&mut out, Protocol::Resp2);
            let ended = engine.run(*script, count, rest.iter().copied(), &mut Nobody, &mut reply);
            assert_eq!(ended, Ended::Answered);
            assert_eq!(out.to_vec(), expected, "{}", bytes.escape_ascii());
        }
    });
}

thread_local! {
    /// A state with scripts that answer their words: as they are given, and as globals.
    static WORDS: (Engine, [Compiled; 2]) = {
        let info = Info { version: "", version_number: 0, memory_max: 64 << 20 };
        let mut engine = Engine::new(&info).expect("a state can be made");
        let scripts = ["return {KEYS, ARGV}", "return {_G.KEYS, _G['ARGV']}"]
            .map(|code| engine.compile("@user_script", code.as_bytes()).expect("it is Lua"));
        (engine, scripts)
    };
}

/// A host that nothing is asked of.
struct Nobody;

impl Host for Nobody {
    fn call(&mut self, _: Words<'_>, _: Protocol, _: &mut Output) -> Verdict {
        Verdict::Stop
    }

    fn may(&mut self, _: Words<'_>) -> Option<bool> {
        None
    }

    fn log(&mut self, _: i64, _: &[u8]) {}

    fn tick(&mut self) -> Verdict {
        Verdict::GoOn
    }
}
