//! LOLWUT: a shelf of jars, drawn anew each time.

use crate::execute::Host;
use crate::registry::{HostCommand, HostRun};
use crate::{REDIS_VERSION, VERSION};
use larder_commands::spec::{Arg, Flags, Group};
use larder_commands::{Args, Error, Spec};
use larder_values::number;

/// Jars on a shelf.
const JARS: usize = 9;
/// Shelves.
const SHELVES: usize = 3;
/// Lines of a jar's body.
const JAR_LINES: u64 = 4;
/// What may be in a jar.
const FILLINGS: [char; 6] = ['o', '~', '*', ':', '%', '#'];

/// `LOLWUT [VERSION version]`
pub static LOLWUT: HostCommand = HostCommand {
    spec: Spec {
        name: "lolwut",
        summary: "Draws something, and tells the version.",
        since: "5.0.0",
        group: Group::Server,
        complexity: "",
        arity: -1,
        flags: Flags::READONLY.or(Flags::FAST),
        args: &[Arg::integer("version").token("VERSION").optional()],
        ..Spec::EMPTY
    },
    run: HostRun::Host(lolwut),
    subcommands: &[],
};

fn lolwut(host: &mut Host<'_>, args: &Args<'_>) -> Result<(), Error> {
    if args.len() >= 3 && args.is(1, b"version") {
        // Every version draws the same.
        number::parse_i64(args.get(2)).ok_or(Error::NotAnInteger)?;
    }
    let local = &mut host.core.local;
    let art = draw(&mut || local.random());
    let text = format!("{art}\nA larder, stocked at random. Larder {VERSION}. Redis ver. {REDIS_VERSION}\n");
    host.reply().verbatim(b"txt", text.as_bytes());
    Ok(())
}

/// Shelves of jars, each filled to some height with something.
fn draw(random: &mut impl FnMut() -> u64) -> String {
    let mut art = String::new();
    for _ in 0..SHELVES {
        let jars: Vec<(u64, char)> = (0..JARS)
            .map(|_| {
                let (height, filling) = (random() % (JAR_LINES + 1), random() as usize % FILLINGS.len());
                (height, FILLINGS[filling])
            })
            .collect();
        let mut line = |jar: &dyn Fn(u64, char) -> String| {
            let parts: Vec<String> = jars.iter().map(|(height, filling)| jar(*height, *filling)).collect();
            art.push_str(parts.join("  ").trim_end());
            art.push('\n');
        };
        line(&|_, _| " .---. ".to_owned());
        line(&|_, _| " )___( ".to_owned());
        for row in (0..JAR_LINES).rev() {
            line(&|height, filling| {
                let inside = if row < height { filling } else { ' ' };
                format!("|{}|", String::from_iter([inside; 5]))
            });
        }
        line(&|_, _| "'-----'".to_owned());
        art.push_str(&"=".repeat(JARS * 9 - 2));
        art.push('\n');
    }
    art
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_is_as_wide_as_its_jars_and_chance_decides_what_is_in_them() {
        let mut seed = 7u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed >> 33
        };
        let (one, other) = (draw(&mut random), draw(&mut random));
        assert_ne!(one, other);
        assert!(one.lines().all(|line| line.len() <= 79));
        assert_eq!(one.lines().count(), SHELVES * 8);
    }
}
