"""The relational part of an ingest on Spark: reading, joins and expressions, for logs that outgrow one machine."""
