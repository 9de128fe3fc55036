//! The gateway as the terminals' own MQTT 3.1.1 broker: its PUBACK means committed and synced.
