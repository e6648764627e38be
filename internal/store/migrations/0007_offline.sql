-- Leave to open disks without the service, and what of it is out there.
CREATE TABLE offline (
  tenant  TEXT    NOT NULL,
  vm      TEXT    NOT NULL,
  boots   INTEGER NOT NULL,
  seconds INTEGER NOT NULL,
  allowed INTEGER NOT NULL,
  issued  INTEGER NOT NULL,
  issued_boots   INTEGER NOT NULL,
  issued_seconds INTEGER NOT NULL,
  PRIMARY KEY (tenant, vm),
  FOREIGN KEY (tenant, vm) REFERENCES vm (tenant, name)
) STRICT;
