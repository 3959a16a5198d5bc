"""Where bars and company data come from: tickers and groupings, the source interface, Yahoo, and files."""
