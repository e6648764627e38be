-- Times are Unix milliseconds, ids 32 hexadecimal digits. Every table has a
-- tenant; '' is the service itself. JSON that is signed or hashed is a BLOB.

-- The one commit-ordered revision, and what changed at each.
CREATE TABLE revision (
  tenant TEXT    NOT NULL PRIMARY KEY,
  rev    INTEGER NOT NULL
) STRICT;
INSERT INTO revision (tenant, rev) VALUES ('', 0);

CREATE TABLE change (
  tenant TEXT    NOT NULL,
  rev    INTEGER NOT NULL PRIMARY KEY,
  kind   TEXT    NOT NULL,
  id     TEXT    NOT NULL,
  op     TEXT    NOT NULL,
  at     INTEGER NOT NULL
) STRICT;
CREATE INDEX change_tenant ON change (tenant, rev);

CREATE TABLE key (
  tenant  TEXT    NOT NULL,
  id      TEXT    NOT NULL,
  name    TEXT    NOT NULL,
  class   TEXT    NOT NULL,
  every   INTEGER NOT NULL,
  primary_version INTEGER NOT NULL,
  last_version    INTEGER NOT NULL,
  since   INTEGER NOT NULL,
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, name)
) STRICT;

CREATE TABLE key_version (
  tenant  TEXT    NOT NULL,
  key_id  TEXT    NOT NULL,
  n       INTEGER NOT NULL,
  created INTEGER NOT NULL,
  wrapped BLOB    NOT NULL,
  PRIMARY KEY (tenant, key_id, n),
  FOREIGN KEY (tenant, key_id) REFERENCES key (tenant, id)
) STRICT;

-- Intermediates. The private key is one version of an identity key.
CREATE TABLE authority (
  tenant      TEXT    NOT NULL,
  purpose     TEXT    NOT NULL,
  serial      TEXT    NOT NULL,
  der         BLOB    NOT NULL,
  key_id      TEXT    NOT NULL,
  key_version INTEGER NOT NULL,
  created     INTEGER NOT NULL,
  PRIMARY KEY (tenant, purpose, serial),
  FOREIGN KEY (tenant, key_id, key_version) REFERENCES key_version (tenant, key_id, n)
) STRICT;

-- One row is written before a certificate is signed; state says how far it came.
CREATE TABLE certificate (
  tenant     TEXT    NOT NULL,
  serial     TEXT    NOT NULL,
  purpose    TEXT    NOT NULL,
  profile    TEXT    NOT NULL,
  subject    TEXT    NOT NULL,
  not_before INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  tbs        BLOB    NOT NULL,
  spki       BLOB    NOT NULL,
  state      TEXT    NOT NULL CHECK (state IN ('intended', 'issued', 'revoked')),
  recorded   INTEGER NOT NULL,
  revoked    INTEGER NOT NULL DEFAULT 0,
  reason     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (serial)
) STRICT;
CREATE INDEX certificate_subject ON certificate (tenant, subject);
CREATE INDEX certificate_expiry  ON certificate (not_after);
CREATE INDEX certificate_revoked ON certificate (purpose, revoked) WHERE state = 'revoked';

-- Apart, because it is large and seldom read.
CREATE TABLE certificate_der (
  tenant TEXT NOT NULL,
  serial TEXT NOT NULL PRIMARY KEY,
  der    BLOB NOT NULL
) STRICT;

CREATE TABLE crl (
  tenant      TEXT    NOT NULL,
  purpose     TEXT    NOT NULL,
  number      INTEGER NOT NULL,
  der         BLOB    NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  PRIMARY KEY (tenant, purpose, number)
) STRICT;

CREATE TABLE host (
  tenant  TEXT    NOT NULL,
  name    TEXT    NOT NULL,
  id      TEXT    NOT NULL,
  tier    TEXT    NOT NULL,
  accepted_unattested INTEGER NOT NULL,
  ek      BLOB    NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (tenant, name)
) STRICT;

CREATE TABLE vm (
  tenant     TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  id         TEXT    NOT NULL,
  host       TEXT    NOT NULL,
  state      TEXT    NOT NULL CHECK (state IN ('born', 'admitted', 'revoked')),
  ek_public  BLOB    NOT NULL,
  ek_serial  TEXT    NOT NULL,
  state_secret BLOB  NOT NULL,
  generation INTEGER NOT NULL,
  pending    INTEGER NOT NULL,
  created    INTEGER NOT NULL,
  revoked    INTEGER NOT NULL DEFAULT 0,
  reason     TEXT    NOT NULL DEFAULT '',
  PRIMARY KEY (tenant, name),
  UNIQUE (id)
) STRICT;

CREATE TABLE disk (
  tenant  TEXT    NOT NULL,
  vm      TEXT    NOT NULL,
  name    TEXT    NOT NULL,
  share   BLOB    NOT NULL,
  volume_key_digest BLOB NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (tenant, vm, name),
  FOREIGN KEY (tenant, vm) REFERENCES vm (tenant, name)
) STRICT;

-- One endorsement key, one VM, over all tenants and for ever: a vTPM that was
-- copied, or revoked, is not born again under another name.
CREATE UNIQUE INDEX vm_ek ON vm (ek_public);

-- At most one lease for each vTPM: the one living copy.
CREATE TABLE lease (
  tenant     TEXT    NOT NULL,
  vm         TEXT    NOT NULL,
  id         TEXT    NOT NULL,
  host       TEXT    NOT NULL,
  generation INTEGER NOT NULL,
  issued     INTEGER NOT NULL,
  expires    INTEGER NOT NULL,
  PRIMARY KEY (tenant, vm),
  FOREIGN KEY (tenant, vm) REFERENCES vm (tenant, name)
) STRICT;

-- What a caller's key already did, so that a repeated request does it once.
CREATE TABLE idempotency (
  tenant  TEXT    NOT NULL,
  key     TEXT    NOT NULL,
  digest  BLOB    NOT NULL,
  object  TEXT    NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
) STRICT;
