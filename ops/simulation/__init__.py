"""An AMQP broker in memory, seeded and without threads or clocks, to test whole systems on."""
