"""A page in the browser that shows what a model finds in a picture."""
