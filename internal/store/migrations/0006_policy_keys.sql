-- A tenant's policy key has versions. What stands in reference is by the primary
-- one; approval has the same sets for the TPMs that still want an older one.
ALTER TABLE reference ADD COLUMN key_version INTEGER NOT NULL DEFAULT 1;

CREATE TABLE approval (
  tenant      TEXT    NOT NULL,
  subject     TEXT    NOT NULL,
  version     INTEGER NOT NULL,
  key_version INTEGER NOT NULL,
  approval    BLOB    NOT NULL,
  PRIMARY KEY (tenant, subject, version, key_version),
  FOREIGN KEY (tenant, subject, version) REFERENCES reference (tenant, subject, version)
) STRICT;

-- Under which version of the policy key the VM's local share is sealed: 0 none,
-- -1 never told. And the result as it was signed.
ALTER TABLE appraisal ADD COLUMN seal_version INTEGER NOT NULL DEFAULT -1;
ALTER TABLE appraisal ADD COLUMN token TEXT NOT NULL DEFAULT '';
