"""The version of the product; the package's metadata reads it from here."""

VERSION = "0.1.0"
