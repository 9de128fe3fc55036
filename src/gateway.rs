//! Wires everything and runs it; the only place that starts long-lived tasks; the shutdown order.
