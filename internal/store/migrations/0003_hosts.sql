-- What a host is worth is a matter of the moment, not of the record.
ALTER TABLE host DROP COLUMN tier;

-- TPM Resets that the vTPM ever had, as its host counted them: fewer means old state.
ALTER TABLE vm ADD COLUMN resets INTEGER NOT NULL DEFAULT 0;

-- VMs whose vTPM their host has yet to make.
CREATE TABLE vm_order (
  tenant  TEXT    NOT NULL,
  vm      TEXT    NOT NULL,
  host    TEXT    NOT NULL,
  endorse INTEGER NOT NULL,
  disks   TEXT    NOT NULL,
  actor   TEXT    NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (tenant, vm),
  FOREIGN KEY (tenant, host) REFERENCES host (tenant, name)
) STRICT;
CREATE INDEX vm_order_host ON vm_order (tenant, host);
CREATE INDEX vm_host ON vm (tenant, host);

-- Approved boots and appraisals are of hosts too: the subject is a VM's name, or
-- "host/" and a host's.
CREATE TABLE approved (
  tenant    TEXT    NOT NULL,
  subject   TEXT    NOT NULL,
  version   INTEGER NOT NULL,
  statement BLOB    NOT NULL,
  signature BLOB    NOT NULL,
  approval  BLOB    NOT NULL,
  created   INTEGER NOT NULL,
  withdrawn INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, subject, version)
) STRICT;
INSERT INTO approved SELECT tenant, vm, version, statement, signature, approval, created, withdrawn FROM reference;
DROP TABLE reference;
ALTER TABLE approved RENAME TO reference;

CREATE TABLE appraised (
  tenant  TEXT    NOT NULL,
  subject TEXT    NOT NULL,
  at      INTEGER NOT NULL,
  status  TEXT    NOT NULL,
  code    TEXT    NOT NULL,
  result  BLOB    NOT NULL,
  PRIMARY KEY (tenant, subject)
) STRICT;
INSERT INTO appraised SELECT tenant, vm, at, status, code, result FROM appraisal;
DROP TABLE appraisal;
ALTER TABLE appraised RENAME TO appraisal;
