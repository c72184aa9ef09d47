"""Modules that align and classify; each is built from modules that it is handed."""
