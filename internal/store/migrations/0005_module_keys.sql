-- Certificates of the keys that kernel modules are signed with: a CA for them
-- alone, and leaves under it. The private keys are versions of keys of class
-- module; those of former leaves are gone, so there is no reference to them.
CREATE TABLE module_certificate (
  tenant      TEXT    NOT NULL,
  serial      TEXT    NOT NULL,
  role        TEXT    NOT NULL CHECK (role IN ('ca', 'leaf')),
  der         BLOB    NOT NULL,
  key_id      TEXT    NOT NULL,
  key_version INTEGER NOT NULL,
  created     INTEGER NOT NULL,
  PRIMARY KEY (tenant, serial),
  FOREIGN KEY (tenant, key_id) REFERENCES key (tenant, id)
) STRICT;
