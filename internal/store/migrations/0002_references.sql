-- Approved boots: signed statements, kept byte for byte. A withdrawn one stays
-- on record.
CREATE TABLE reference (
  tenant    TEXT    NOT NULL,
  vm        TEXT    NOT NULL,
  version   INTEGER NOT NULL,
  statement BLOB    NOT NULL,
  signature BLOB    NOT NULL,
  approval  BLOB    NOT NULL,
  created   INTEGER NOT NULL,
  withdrawn INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, vm, version),
  FOREIGN KEY (tenant, vm) REFERENCES vm (tenant, name)
) STRICT;

-- The last appraisal of each VM; the audit log has the hash of every one.
CREATE TABLE appraisal (
  tenant TEXT    NOT NULL,
  vm     TEXT    NOT NULL,
  at     INTEGER NOT NULL,
  status TEXT    NOT NULL,
  code   TEXT    NOT NULL,
  result BLOB    NOT NULL,
  PRIMARY KEY (tenant, vm),
  FOREIGN KEY (tenant, vm) REFERENCES vm (tenant, name)
) STRICT;
