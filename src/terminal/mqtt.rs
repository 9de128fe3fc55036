//! A client of a broker: persistent session, QoS 1, acknowledged by hand after commit.
