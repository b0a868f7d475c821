//! The declarations of the commands that search; what they do is in `search.rs`.

use super::plan::Form;
use super::search::{search, search_or_store};
use crate::spec::{Acl, Arg, Begin, Command, Find, Flags, Group, KeyFlags, KeySpec, Run, Spec};

/// `GEORADIUS key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]`
pub static GEORADIUS: Command = Command {
    spec: Spec {
        name: "georadius",
        summary: "Answers or stores the places within a circle around a point.",
        since: "3.2.0",
        group: Group::Geo,
        complexity: "O(N + M log M), N places in the cells around the circle, M places within it",
        arity: -6,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::GEO,
        keys: &[
            KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS)),
            KeySpec {
                flags: KeyFlags::OW.or(KeyFlags::UPDATE),
                begin: Begin::Keyword { word: "STORE", from: 6 },
                find: Find::Range { last: 0, step: 1, limit: 0 },
                notes: None,
            },
            KeySpec {
                flags: KeyFlags::OW.or(KeyFlags::UPDATE),
                begin: Begin::Keyword { word: "STOREDIST", from: 6 },
                find: Find::Range { last: 0, step: 1, limit: 0 },
                notes: None,
            },
        ],
        args: &[
            Arg::key("key", 0),
            Arg::double("longitude"),
            Arg::double("latitude"),
            Arg::double("radius"),
            Arg::one_of(
                "unit",
                &[Arg::word("m", "M"), Arg::word("km", "KM"), Arg::word("ft", "FT"), Arg::word("mi", "MI")],
            ),
            Arg::word("withcoord", "WITHCOORD").optional(),
            Arg::word("withdist", "WITHDIST").optional(),
            Arg::word("withhash", "WITHHASH").optional(),
            Arg::block(
                "count-block",
                &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").since("6.2.0").optional()],
            )
            .optional(),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
            Arg::one_of(
                "store",
                &[
                    Arg::key("storekey", 1).token("STORE").display("key"),
                    Arg::key("storedistkey", 2).token("STOREDIST").display("key"),
                ],
            )
            .optional(),
        ],
        history: &[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Takes units in upper case.")],
        deprecated: Some(("6.2.0", "`GEOSEARCH` or `GEOSEARCHSTORE` with `BYRADIUS`")),
        ..Spec::EMPTY
    },
    run: Run::Keyspace(|cx, args| search_or_store(cx, args, Form::AroundPoint)),
    subcommands: &[],
};

/// `GEORADIUS_RO key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]`
pub static GEORADIUS_RO: Command = Command {
    spec: Spec {
        name: "georadius_ro",
        summary: "Answers the places within a circle around a point.",
        since: "3.2.10",
        group: Group::Geo,
        complexity: "O(N + M log M), N places in the cells around the circle, M places within it",
        arity: -6,
        flags: Flags::READONLY,
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::double("longitude"),
            Arg::double("latitude"),
            Arg::double("radius"),
            Arg::one_of(
                "unit",
                &[Arg::word("m", "M"), Arg::word("km", "KM"), Arg::word("ft", "FT"), Arg::word("mi", "MI")],
            ),
            Arg::word("withcoord", "WITHCOORD").optional(),
            Arg::word("withdist", "WITHDIST").optional(),
            Arg::word("withhash", "WITHHASH").optional(),
            Arg::block(
                "count-block",
                &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").since("6.2.0").optional()],
            )
            .optional(),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
        ],
        history: &[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Takes units in upper case.")],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with `BYRADIUS`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| search(cx, args, Form::AroundPoint)),
    subcommands: &[],
};

/// `GEORADIUSBYMEMBER key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]`
pub static GEORADIUSBYMEMBER: Command = Command {
    spec: Spec {
        name: "georadiusbymember",
        summary: "Answers or stores the places within a circle around a place.",
        since: "3.2.0",
        group: Group::Geo,
        complexity: "O(N + M log M), N places in the cells around the circle, M places within it",
        arity: -5,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::GEO,
        keys: &[
            KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS)),
            KeySpec {
                flags: KeyFlags::OW.or(KeyFlags::UPDATE),
                begin: Begin::Keyword { word: "STORE", from: 5 },
                find: Find::Range { last: 0, step: 1, limit: 0 },
                notes: None,
            },
            KeySpec {
                flags: KeyFlags::OW.or(KeyFlags::UPDATE),
                begin: Begin::Keyword { word: "STOREDIST", from: 5 },
                find: Find::Range { last: 0, step: 1, limit: 0 },
                notes: None,
            },
        ],
        args: &[
            Arg::key("key", 0),
            Arg::string("member"),
            Arg::double("radius"),
            Arg::one_of(
                "unit",
                &[Arg::word("m", "M"), Arg::word("km", "KM"), Arg::word("ft", "FT"), Arg::word("mi", "MI")],
            ),
            Arg::word("withcoord", "WITHCOORD").optional(),
            Arg::word("withdist", "WITHDIST").optional(),
            Arg::word("withhash", "WITHHASH").optional(),
            Arg::block(
                "count-block",
                &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").optional()],
            )
            .optional(),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
            Arg::one_of(
                "store",
                &[
                    Arg::key("storekey", 1).token("STORE").display("key"),
                    Arg::key("storedistkey", 2).token("STOREDIST").display("key"),
                ],
            )
            .optional(),
        ],
        history: &[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Takes units in upper case.")],
        deprecated: Some(("6.2.0", "`GEOSEARCH` or `GEOSEARCHSTORE` with `FROMMEMBER` and `BYRADIUS`")),
        ..Spec::EMPTY
    },
    run: Run::Keyspace(|cx, args| search_or_store(cx, args, Form::AroundMember)),
    subcommands: &[],
};

/// `GEORADIUSBYMEMBER_RO key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]`
pub static GEORADIUSBYMEMBER_RO: Command = Command {
    spec: Spec {
        name: "georadiusbymember_ro",
        summary: "Answers the places within a circle around a place.",
        since: "3.2.10",
        group: Group::Geo,
        complexity: "O(N + M log M), N places in the cells around the circle, M places within it",
        arity: -5,
        flags: Flags::READONLY,
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::string("member"),
            Arg::double("radius"),
            Arg::one_of(
                "unit",
                &[Arg::word("m", "M"), Arg::word("km", "KM"), Arg::word("ft", "FT"), Arg::word("mi", "MI")],
            ),
            Arg::word("withcoord", "WITHCOORD").optional(),
            Arg::word("withdist", "WITHDIST").optional(),
            Arg::word("withhash", "WITHHASH").optional(),
            Arg::block(
                "count-block",
                &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").optional()],
            )
            .optional(),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
        ],
        history: &[("6.2.0", "`COUNT` takes `ANY`."), ("7.0.0", "Takes units in upper case.")],
        deprecated: Some(("6.2.0", "`GEOSEARCH` with `FROMMEMBER` and `BYRADIUS`")),
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| search(cx, args, Form::AroundMember)),
    subcommands: &[],
};

/// The shape that Valkey has beside those of Redis. It is its own middle.
const POLYGON: Arg = Arg::block(
    "polygon",
    &[
        Arg::integer("num-vertices").token("BYPOLYGON"),
        Arg::block("vertices", &[Arg::double("longitude"), Arg::double("latitude")]).multiple(),
    ],
);

/// `GEOSEARCH key [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude latitude [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]`
pub static GEOSEARCH: Command = Command {
    spec: Spec {
        name: "geosearch",
        summary: "Answers the places within a circle, a box or a polygon.",
        since: "6.2.0",
        group: Group::Geo,
        complexity: "O(N + M log M), N places in the cells around the shape, M places within it",
        arity: -7,
        flags: Flags::READONLY,
        acl: Acl::GEO,
        keys: &[KeySpec::at(1, KeyFlags::RO.or(KeyFlags::ACCESS))],
        args: &[
            Arg::key("key", 0),
            Arg::one_of(
                "from",
                &[
                    Arg::string("member").token("FROMMEMBER"),
                    Arg::block("fromlonlat", &[Arg::double("longitude"), Arg::double("latitude")])
                        .token("FROMLONLAT"),
                ],
            )
            .optional(),
            Arg::one_of(
                "by",
                &[
                    Arg::block(
                        "circle",
                        &[
                            Arg::double("radius").token("BYRADIUS"),
                            Arg::one_of(
                                "unit",
                                &[
                                    Arg::word("m", "M"),
                                    Arg::word("km", "KM"),
                                    Arg::word("ft", "FT"),
                                    Arg::word("mi", "MI"),
                                ],
                            ),
                        ],
                    ),
                    Arg::block(
                        "box",
                        &[
                            Arg::double("width").token("BYBOX"),
                            Arg::double("height"),
                            Arg::one_of(
                                "unit",
                                &[
                                    Arg::word("m", "M"),
                                    Arg::word("km", "KM"),
                                    Arg::word("ft", "FT"),
                                    Arg::word("mi", "MI"),
                                ],
                            ),
                        ],
                    ),
                    POLYGON,
                ],
            ),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
            Arg::block(
                "count-block",
                &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").optional()],
            )
            .optional(),
            Arg::word("withcoord", "WITHCOORD").optional(),
            Arg::word("withdist", "WITHDIST").optional(),
            Arg::word("withhash", "WITHHASH").optional(),
        ],
        history: &[("7.0.0", "Takes units in upper case.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| search(cx, args, Form::Search)),
    subcommands: &[],
};

/// `GEOSEARCHSTORE destination source [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude latitude [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]`
pub static GEOSEARCHSTORE: Command = Command {
    spec: Spec {
        name: "geosearchstore",
        summary: "Stores the places within a circle, a box or a polygon.",
        since: "6.2.0",
        group: Group::Geo,
        complexity: "O(N + M log M), N places in the cells around the shape, M places within it",
        arity: -8,
        flags: Flags::WRITE.or(Flags::DENY_OOM),
        acl: Acl::GEO,
        keys: &[
            KeySpec::at(1, KeyFlags::OW.or(KeyFlags::UPDATE)),
            KeySpec::at(2, KeyFlags::RO.or(KeyFlags::ACCESS)),
        ],
        args: &[
            Arg::key("destination", 0),
            Arg::key("source", 1),
            Arg::one_of(
                "from",
                &[
                    Arg::string("member").token("FROMMEMBER"),
                    Arg::block("fromlonlat", &[Arg::double("longitude"), Arg::double("latitude")])
                        .token("FROMLONLAT"),
                ],
            )
            .optional(),
            Arg::one_of(
                "by",
                &[
                    Arg::block(
                        "circle",
                        &[
                            Arg::double("radius").token("BYRADIUS"),
                            Arg::one_of(
                                "unit",
                                &[
                                    Arg::word("m", "M"),
                                    Arg::word("km", "KM"),
                                    Arg::word("ft", "FT"),
                                    Arg::word("mi", "MI"),
                                ],
                            ),
                        ],
                    ),
                    Arg::block(
                        "box",
                        &[
                            Arg::double("width").token("BYBOX"),
                            Arg::double("height"),
                            Arg::one_of(
                                "unit",
                                &[
                                    Arg::word("m", "M"),
                                    Arg::word("km", "KM"),
                                    Arg::word("ft", "FT"),
                                    Arg::word("mi", "MI"),
                                ],
                            ),
                        ],
                    ),
                    POLYGON,
                ],
            ),
            Arg::one_of("order", &[Arg::word("asc", "ASC"), Arg::word("desc", "DESC")]).optional(),
            Arg::block(
                "count-block",
                &[Arg::integer("count").token("COUNT"), Arg::word("any", "ANY").optional()],
            )
            .optional(),
            Arg::word("storedist", "STOREDIST").optional(),
        ],
        history: &[("7.0.0", "Takes units in upper case.")],
        ..Spec::EMPTY
    },
    run: Run::Keys(|cx, args| search(cx, args, Form::SearchStore)),
    subcommands: &[],
};
