"""What shows: averages, tables, the HTML page, pictures."""
