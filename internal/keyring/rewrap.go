package keyring

import "fmt"

// Rewrap wraps a secret anew when it is under an older root key, and says
// whether it was. Done twice it changes nothing, so whoever was interrupted
// begins again.
func (r *Ring) Rewrap(tenant string, id ID, what string, wrapped []byte) (again []byte, changed bool, err error) {
	now := &Ring{root: r.root}
	if s, err := now.Unwrap(tenant, id, what, wrapped); err == nil {
		s.Erase()
		return wrapped, false, nil
	}
	s, err := r.Unwrap(tenant, id, what, wrapped)
	if err != nil {
		return nil, false, err
	}
	defer s.Erase()
	return r.Wrap(tenant, id, what, s), true, nil
}

// RewrapKey is Rewrap for all versions of a key.
func (r *Ring) RewrapKey(k Key) (Key, bool, error) {
	any := false
	versions := make([]Version, len(k.Versions))
	for i, v := range k.Versions {
		var changed bool
		var err error
		if v.Wrapped, changed, err = r.Rewrap(k.Tenant, k.ID, versionLabel(k.Class, v.N), v.Wrapped); err != nil {
			return k, false, fmt.Errorf("wrapping version %d of key %s anew: %w", v.N, k.Name, err)
		}
		any = any || changed
		versions[i] = v
	}
	k.Versions = versions
	return k, any, nil
}
