//! Members and scores as replies.

use crate::cx::Ctx;
use larder_resp::Reply;
use larder_values::number;
use larder_values::packed::Element;

/// Answers a score alone.
pub(crate) fn reply_score(cx: &mut Ctx<'_>, score: f64) {
    let text = &mut cx.db.local.scratch;
    cx.reply.score(score, text);
    text.clear();
}

/// Members and scores as replies.
pub(crate) trait ReplyMember {
    /// A member, as a bulk string.
    fn member(&mut self, member: Element<'_>);
    /// A score, as a double. `text` is memory for its digits.
    fn score(&mut self, score: f64, text: &mut Vec<u8>);
    /// The header of `len` members, each followed by its score where `with_scores` is set: in RESP3 each
    /// pair is an array of its own.
    fn members_header(&mut self, len: usize, with_scores: bool);
    /// A member of such an array.
    fn listed_member(&mut self, member: Element<'_>, score: f64, with_scores: bool, text: &mut Vec<u8>);
}

impl ReplyMember for Reply<'_> {
    #[inline]
    fn member(&mut self, member: Element<'_>) {
        match member {
            Element::Int(value) => self.bulk_integer(value),
            Element::Bytes(bytes) => self.bulk(bytes),
        }
    }

    #[inline]
    fn score(&mut self, score: f64, text: &mut Vec<u8>) {
        text.clear();
        number::write_f64(text, score);
        self.double_text(text);
    }

    #[inline]
    fn members_header(&mut self, len: usize, with_scores: bool) {
        self.array(if with_scores && !self.is_resp3() { len * 2 } else { len });
    }

    #[inline]
    fn listed_member(&mut self, member: Element<'_>, score: f64, with_scores: bool, text: &mut Vec<u8>) {
        if with_scores && self.is_resp3() {
            self.array(2);
        }
        self.member(member);
        if with_scores {
            self.score(score, text);
        }
    }
}
