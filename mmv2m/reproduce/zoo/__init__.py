"""The model zoo: metafiles and pages, all made from the tables, the configs and the records."""
