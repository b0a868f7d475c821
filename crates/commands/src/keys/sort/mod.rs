//! SORT and SORT_RO.
//!
//! The keys that BY and GET name follow from the elements, so they are known only after the elements
//! were read: the elements are read under their key's lock, then all keys are locked together and
//! the elements are read again; when they have changed meanwhile, the round starts over. What is
//! answered is the state of one moment.
//! Read next: `plan.rs` (the grammar), `order.rs` (elements in, rows out), `part.rs` (sorting a part).

mod order;
mod part;
mod plan;

use crate::args::Args;
use crate::cx::KeyspaceCtx;
use crate::error::Error;
use crate::hash::remove_due;
use crate::list;
use crate::spec::{Acl, Arg, Begin, Command, Find, Flags, KeyFlags, KeySpec, Run, Spec};
use larder_store::{Db, Event, Expire, Item, Type, WrongType};
use larder_values::hash::{Found, Hash};
use larder_values::list::{End, Limit, List};
use larder_values::packed::Element;
use larder_values::set::Set;
use larder_values::zset::ZSet;
use plan::{By, Pattern, Plan};
use smallvec::SmallVec;

const SORTED: KeySpec = KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS));

const BY_AND_GET: KeySpec = KeySpec {
    flags: KeyFlags::RO.or(KeyFlags::ACCESS),
    begin: Begin::Unknown,
    find: Find::Unknown,
    notes: Some("BY and GET: which keys they name depends on the elements"),
};

const STORED: KeySpec = KeySpec {
    flags: KeyFlags::OW.or(KeyFlags::UPDATE),
    begin: Begin::Unknown,
    find: Find::Unknown,
    notes: Some("STORE: the word may stand anywhere among the options"),
};

const fn pattern(name: &'static str, token: &'static str) -> Arg {
    let mut arg = Arg::pattern(name).token(token).display("pattern").optional();
    arg.key_spec = Some(1);
    arg
}

const KEY: Arg = Arg::key("key", 0);
const BY: Arg = pattern("by-pattern", "BY");
const LIMIT: Arg =
    Arg::block("limit", &[Arg::integer("offset"), Arg::integer("count")]).token("LIMIT").optional();
const GET: Arg = pattern("get-pattern", "GET").multiple_with_token();
const ORDER: Arg = Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional();
const ALPHA: Arg = Arg::word("sorting", "ALPHA").optional();
const STORE: Arg = Arg::key("destination", 2).token("STORE").optional();

const ACL: Acl = Acl::SET.or(Acl::SORTED_SET).or(Acl::LIST).or(Acl::DANGEROUS);
const COMPLEXITY: &str = "O(N + M log M), N elements of which M are answered; O(N) where nothing is sorted.";

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC | DESC] [ALPHA] [STORE destination]`
pub static SORT: Command = Command {
    spec: Spec {
        name: "sort",
        summary: "Sorts the elements of a list, set or sorted set, and answers or stores them.",
        complexity: COMPLEXITY,
        arity: -2,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: ACL,
        keys: &[SORTED, BY_AND_GET, STORED],
        args: &[KEY, BY, LIMIT, GET, ORDER, ALPHA, STORE],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(|cx, args| sort(cx, args, Plan::parse(args, true, cx.may_read_any)?)),
    subcommands: &[],
};

/// `SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC | DESC] [ALPHA]`
pub static SORT_RO: Command = Command {
    spec: Spec {
        name: "sort_ro",
        summary: "Sorts the elements of a list, set or sorted set, and answers them.",
        since: "7.0.0",
        complexity: COMPLEXITY,
        arity: -2,
        flags: Flags::READONLY,
        acl: ACL,
        keys: &[SORTED, BY_AND_GET],
        args: &[KEY, BY, LIMIT, GET, ORDER, ALPHA],
        ..Spec::EMPTY
    },
    run: Run::Keyspace(|cx, args| sort(cx, args, Plan::parse(args, false, cx.may_read_any)?)),
    subcommands: &[],
};

/// What one round under the locks came to.
enum Round {
    /// The rows, as stored or as to be answered.
    Done(Vec<Option<Vec<u8>>>),
    /// The elements are others than those whose keys are locked.
    Changed(Vec<Vec<u8>>),
}

fn sort(cx: &mut KeyspaceCtx<'_>, args: &Args<'_>, plan: Plan<'_>) -> Result<(), Error> {
    let (source, limit) = (args.get(1), list::limit(cx.limits));
    let mut elements = Vec::new();
    let rows = loop {
        let named = plan.keys_named(&elements);
        let mut keys: SmallVec<[&[u8]; 4]> = SmallVec::new();
        keys.push(source);
        keys.extend(plan.store);
        keys.extend(named.iter().map(Vec::as_slice));
        let Some(round) = cx.with_keys(cx.db, &keys, |db, _| round(db, limit, &plan, source, elements))
        else {
            return Ok(());
        };
        match round? {
            Round::Done(rows) => break rows,
            Round::Changed(present) => elements = present,
        }
    };
    if plan.store.is_some() {
        cx.reply.count(rows.len());
        return Ok(());
    }
    cx.reply.array(rows.len());
    for row in rows {
        match row {
            Some(value) => cx.reply.bulk(&value),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

/// One round with the source, the destination and the keys that `expected` names locked.
fn round(
    db: &mut Db<'_>,
    limit: Limit,
    plan: &Plan<'_>,
    source: &[u8],
    expected: Vec<Vec<u8>>,
) -> Result<Round, Error> {
    let key = db.key(source);
    let present = elements(db.read(&key), plan)?;
    // Redis sorts no small sorted set: it makes it a large one first, which shows ever after.
    if db.peek(&key).is_some_and(|item| item.value_type() == Type::ZSet) {
        db.edit(&key, ZSet::make_large)?;
    }
    if plan.names_keys() && present != expected {
        return Ok(Round::Changed(present));
    }
    let rows = order::rows(plan, present, &mut |pattern, element| value_named(db, pattern, element))?;
    if let Some(destination) = plan.store {
        store(db, limit, destination, &rows);
    }
    Ok(Round::Done(rows))
}

/// The elements of a collection in its own order; a missing key has none. A set has no order of its own,
/// so what is stored of one in its own order is sorted.
fn elements(item: Option<Item<'_>>, plan: &Plan<'_>) -> Result<Vec<Vec<u8>>, WrongType> {
    let Some(item) = item else { return Ok(Vec::new()) };
    match item.value_type() {
        Type::ZSet => Ok(item.view::<ZSet>()?.iter().map(|(member, _)| member.to_vec()).collect()),
        Type::Set => {
            let mut members = Vec::new();
            item.view::<Set>()?.for_each(|member| members.push(member.to_vec()));
            if plan.by == By::Nothing && plan.store.is_some() {
                members.sort_unstable();
            } else if plan.by == By::Nothing && plan.descending {
                // Redis does not turn round what has no order; it will be turned round once more.
                members.reverse();
            }
            Ok(members)
        }
        Type::List => Ok(item.view::<List>()?.to_vecs()),
        _ => Err(WrongType),
    }
}

/// The value that a pattern names for an element, if there is a value of the fitting type.
fn value_named(db: &mut Db<'_>, pattern: &Pattern<'_>, element: &[u8]) -> Option<Vec<u8>> {
    let name = pattern.key_for(element);
    let key = db.key(&name);
    let now = db.now_of_fields();
    let item = db.read(&key)?;
    match item.value_type() {
        Type::String if pattern.field.is_none() => item.string().ok().map(|value| value.to_vec()),
        Type::Hash => {
            let field = pattern.field?;
            let found = item.view::<Hash>().ok()?.find(field, now);
            if found == Found::Due {
                remove_due(db, &key, [field].into_iter());
                return None;
            }
            found.value().map(Element::to_vec)
        }
        _ => None,
    }
}

/// Replaces the destination by a list of the rows; no row leaves no key.
fn store(db: &mut Db<'_>, limit: Limit, destination: &[u8], rows: &[Option<Vec<u8>>]) {
    let key = db.key(destination);
    if rows.is_empty() {
        if db.remove_even_if_over(&key) {
            db.changed(&key, Event::DEL);
        }
        return;
    }
    let mut list = List::of_chunks(limit);
    rows.iter().for_each(|row| list.push(End::Tail, row.as_deref().unwrap_or_default()));
    list.settle(limit, false);
    if db.put_collection(&key, list, Expire::Clear) {
        db.overwritten(&key);
    }
    db.changed(&key, Event::SORTSTORE);
    db.local.effects.changed_many(rows.len() as u64 - 1);
}
