-- Allow-lists of kernel modules: signed, kept byte for byte. A withdrawn one
-- stays on record.
CREATE TABLE module_list (
  tenant    TEXT    NOT NULL,
  vm        TEXT    NOT NULL,
  version   INTEGER NOT NULL,
  list      BLOB    NOT NULL,
  signature BLOB    NOT NULL,
  created   INTEGER NOT NULL,
  withdrawn INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant, vm, version),
  FOREIGN KEY (tenant, vm) REFERENCES vm (tenant, name)
) STRICT;
