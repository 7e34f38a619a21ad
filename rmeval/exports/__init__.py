"""A result in the formats of others: one file per format, each a function from a `ResultView` to the files' content.

What this package does not know: where files are written, the command line.
"""
