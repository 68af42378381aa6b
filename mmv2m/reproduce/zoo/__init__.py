"""The model zoo: metafiles and a page, made from the tables, the configs and the records."""
