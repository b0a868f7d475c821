-- A small shop for the examples of README.md and docs/READ-THROUGH.md: sqlite3 shop.db < docs/examples/shop.sql
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT);
INSERT INTO users VALUES (42, 'Ada', 'ada@example.org'), (43, 'Grace', NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, user INTEGER NOT NULL, total REAL NOT NULL);
INSERT INTO orders VALUES (1, 42, 9.5), (2, 42, 120), (3, 43, 7);
