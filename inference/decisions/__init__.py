"""Pure decisions: events in, decisions out, time as an argument."""
