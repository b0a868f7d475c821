//! What it would take to compile a source: nobody can end that, so a source that would take long is refused before.
//!
//! LuaJIT goes along a list of jumps whenever it appends to one: those behind the branches of an `if`, and those out of a row of
//! `and` and `or`. Lists that it would refuse for their length in the end would keep it busy for hours until then.
//! Invariant: what is refused, LuaJIT would refuse as well, or take more than a second for.

use super::Token;

/// Steps along lists: LuaJIT does some hundred millions of them in a second.
const STEPS_MAX: u64 = 1 << 28;
/// Blocks, brackets and returned expressions within each other: LuaJIT takes two hundred.
const NESTED_MAX: usize = 1000;

/// What `end` or `until` ends.
enum Block {
    Function,
    /// Branches so far behind the first.
    If(u64),
    Other,
}

/// What has been read so far of a source.
#[derive(Default)]
pub(super) struct Effort<'a> {
    steps: u64,
    blocks: Vec<Block>,
    /// Jumps out of the expressions that are open: those around a bracket or a function, and the innermost one.
    outer: Vec<u64>,
    jumps: u64,
    /// Labels, and jumps to them.
    labels: u64,
    last: Option<Token<'a>>,
}

impl<'a> Effort<'a> {
    /// Takes the next token, which stands in so many blocks and brackets. What is wrong, if it is too much.
    pub(super) fn follow(&mut self, token: Token<'a>, nested: usize) -> Option<&'static str> {
        if nested > NESTED_MAX {
            return Some("chunk has too many syntax levels");
        }
        if self.begins_statement(token) {
            self.jumps = 0;
        }
        match token {
            Token::Name(b"and" | b"or") => {
                self.steps += self.jumps;
                self.jumps += 1;
            }
            Token::Other(b',' | b';') => self.jumps = 0,
            Token::Other(b'(' | b'[' | b'{') => self.open(),
            Token::Other(b')' | b']' | b'}') => self.close(),
            Token::Name(b"function") => {
                self.open();
                self.blocks.push(Block::Function);
            }
            Token::Name(b"if") => self.blocks.push(Block::If(0)),
            Token::Name(b"do" | b"repeat") => self.blocks.push(Block::Other),
            Token::Name(b"elseif") => {
                if let Some(Block::If(branches)) = self.blocks.last_mut() {
                    *branches += 1;
                    self.steps += *branches;
                }
            }
            // A function opened an expression as well.
            Token::Name(b"end" | b"until") => {
                if let Some(Block::Function) = self.blocks.pop() {
                    self.close();
                }
            }
            Token::Name(b"goto") => self.label(),
            Token::Other(b':') if self.last == Some(token) => self.label(),
            _ => {}
        }
        self.last = Some(token);
        (self.steps > STEPS_MAX).then_some("control structure too long")
    }

    /// Whether a name follows on something that can end an expression, so that it does not belong to it.
    fn begins_statement(&self, token: Token<'_>) -> bool {
        let ends_operand = match self.last {
            Some(Token::Name(name)) => !matches!(name, b"and" | b"or" | b"not"),
            Some(Token::Literal | Token::Dots(3) | Token::Other(b')' | b']' | b'}')) => true,
            _ => false,
        };
        ends_operand && matches!(token, Token::Name(name) if !matches!(name, b"and" | b"or"))
    }

    fn open(&mut self) {
        self.outer.push(self.jumps);
        self.jumps = 0;
    }

    fn close(&mut self) {
        self.jumps = self.outer.pop().unwrap_or(0);
    }

    fn label(&mut self) {
        self.labels += 1;
        self.steps += self.labels;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Results, prepare};

    fn refused(source: &str) -> Option<String> {
        prepare(source.as_bytes(), Results::All)
            .err()
            .map(|wrong| String::from_utf8(wrong.message()).unwrap())
    }

    #[test]
    fn what_takes_hours_to_compile_is_refused() {
        const LONG: &str = "control structure too long";
        for (source, what) in [
            (format!("if x then {} end", "elseif x then ".repeat(100_000)), LONG),
            (format!("return x{}", " and x".repeat(100_000)), LONG),
            (format!("f(x{})", " or\nnot x == 1".repeat(100_000)), LONG),
            (format!("x = y{}", " and f(a, b){1; 2}".repeat(100_000)), LONG),
            (format!("x = y{}", " or function() local a, b = 1 end".repeat(100_000)), LONG),
            ("if x then elseif y then elseif z then end ".repeat(20_000) + &"goto a ".repeat(100_000), LONG),
            ((0..100_000).map(|label| format!("::a{label}:: ")).collect(), LONG),
            ("(".repeat(2000), "chunk has too many syntax levels"),
            ("return ".repeat(2000), "chunk has too many syntax levels"),
            ("function f() arg = ".repeat(2000), "chunk has too many syntax levels"),
        ] {
            let told = refused(&source).unwrap_or_else(|| panic!("{source:.60} is taken"));
            assert!(told.ends_with(what) && told.starts_with(|digit: char| digit.is_ascii_digit()), "{told}");
        }
    }

    #[test]
    fn long_sources_of_short_pieces_are_taken() {
        for source in [
            "if x then y() elseif z then y() elseif z then y() else y() end ".repeat(100_000),
            "local x = a and b or c ".repeat(100_000),
            "x = a and b or c y = not d or (e and f) ".repeat(100_000),
            format!("return {{{}}}", "a and b or c, f(a and b), {a or b}; ".repeat(100_000)),
            "t[#t + 1] = a and b f(t)(a or b) ".repeat(100_000),
            "f(function() return a and b end) ".repeat(100_000),
            format!("if x then {} end", "elseif x == 1 then f() ".repeat(10_000)),
        ] {
            assert_eq!(refused(&source), None, "{source:.60}");
        }
    }
}
