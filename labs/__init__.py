"""The lab package of the distributed-inference workbook. `labs/README.md` says what each package holds."""
