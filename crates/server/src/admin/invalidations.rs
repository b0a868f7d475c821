//! The figures of invalidations and leases for Prometheus.

use super::metrics::{Form, Text};
use crate::cache_report::Invalidations;
use crate::server::Server;

/// Writes the families of invalidations and leases.
pub(super) fn write(server: &Server, text: &mut Text) {
    let Invalidations { counts, present } = Invalidations::count(server);
    text.family(
        Form::Counter,
        "larder_invalidation_events_total",
        "Invalidations by clients, what came of them, and what came of leases.",
    );
    counts.iter().for_each(|(kind, count)| text.sample(&[("kind", kind)], count));
    text.family(
        Form::Gauge,
        "larder_invalidation_present",
        "Invalidations that are being carried out, leases that are out, and keys with tags or a time for which they may be given old.",
    );
    present.iter().for_each(|(kind, count)| text.sample(&[("kind", kind)], count));
}
