"""Past decisions: a bounded ring per account, off the request path; explaining them, taking them again, reporting on them."""
