-- Up to when certificates that ended were removed.
CREATE TABLE forgotten (
  tenant TEXT    NOT NULL PRIMARY KEY,
  until  INTEGER NOT NULL
) STRICT;
