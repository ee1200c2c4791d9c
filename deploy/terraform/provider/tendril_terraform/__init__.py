"""Terraform provider of Tendril."""

VERSION = "0.1.0"
ADDRESS = "tendril.example/tendril/tendril"
