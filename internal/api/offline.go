package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vouchsafe/vouchsafe/finding"
	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// OfflineLeave is leave for a VM to open its disks without the service.
type OfflineLeave struct {
	Boots   int    `json:"boots" doc:"how many resets of the vTPM after each admission; 0: none"`
	Seconds int64  `json:"seconds" doc:"how long the vTPM may run after each admission"`
	Allowed string `json:"allowed,omitempty"`
	// What the VM may still have, although the leave was withdrawn.
	Issued        string            `json:"issued,omitempty" doc:"when the VM last got a ticket that it was not seen without since"`
	IssuedBoots   int               `json:"issued_boots,omitempty"`
	IssuedSeconds int64             `json:"issued_seconds,omitempty"`
	Findings      []finding.Finding `json:"findings,omitempty"`
}

// AllowOffline asks for it.
type AllowOffline struct {
	Boots   int   `json:"boots" minimum:"1" maximum:"20"`
	Seconds int64 `json:"seconds,omitempty" minimum:"0" maximum:"2592000" doc:"0: seven days"`
}

func offlineOut(vm string, o enroll.Offline) OfflineLeave {
	return OfflineLeave{Boots: o.Boots, Seconds: int64(o.For / time.Second), Allowed: stamp(o.Allowed),
		Issued: stamp(o.Issued), IssuedBoots: o.IssuedBoots, IssuedSeconds: int64(o.IssuedFor / time.Second), Findings: enroll.OfflineFindings(vm, o)}
}

func (s *server) offline() {
	type allow struct {
		Named
		body[AllowOffline]
	}
	const path = "/v1/vms/{name}/offline"
	operation(s, "PUT", path, "allow-offline", "Let a VM open its disks without the service, for a few boots", operators, func(ctx context.Context, in *allow) (*body[OfflineLeave], error) {
		who := caller(ctx)
		o, err := s.Enroll.AllowOffline(ctx, who.Tenant, in.Name, in.Body.Boots, time.Duration(in.Body.Seconds)*time.Second, who.String())
		return answer(offlineOut(in.Name, o)), err
	})
	operation(s, "DELETE", path, "forbid-offline", "Withdraw that; the answer says what is still out", operators, func(ctx context.Context, in *Named) (*body[OfflineLeave], error) {
		who := caller(ctx)
		o, err := s.Enroll.ForbidOffline(ctx, who.Tenant, in.Name, who.String())
		return answer(offlineOut(in.Name, o)), err
	})
	operation(s, "GET", path, "get-offline", "Whether a VM may open its disks without the service", operators, func(ctx context.Context, in *Named) (*body[OfflineLeave], error) {
		tenant := caller(ctx).Tenant
		if _, err := s.Store.VM(ctx, tenant, in.Name); err != nil {
			return nil, fmt.Errorf("VM %s: %w", in.Name, err)
		}
		o, err := s.Store.Offline(ctx, tenant, in.Name)
		if errors.Is(err, enroll.ErrNotFound) {
			err = nil
		}
		return answer(offlineOut(in.Name, o)), err
	})
}
