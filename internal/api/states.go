package api

import (
	"context"

	"github.com/vouchsafe/vouchsafe/internal/enroll"
)

// StateShown is a vTPM's state that was refused as another than the one on record.
type StateShown struct {
	VM           string `json:"vm"`
	Host         string `json:"host"`
	Generation   int64  `json:"generation" doc:"of the state that the host has"`
	Writes       int64  `json:"writes" doc:"how often that state was written"`
	Record       int64  `json:"record" doc:"the generation on record then"`
	RecordWrites int64  `json:"record_writes" doc:"how often the state on record was written"`
	At           string `json:"at"`
}

// AcceptState makes a VM's record fit a state that its host showed.
type AcceptState struct {
	Generation int64  `json:"generation" minimum:"1"`
	Writes     int64  `json:"writes,omitempty" minimum:"0" doc:"of the state; to be named for one that was written less often than the one on record"`
	Reason     string `json:"reason" minLength:"1" maxLength:"500"`
}

func (s *server) states() {
	operation(s, "GET", "/v1/states-shown", "list-states-shown", "vTPMs whose state was refused within the hour as newer than the record, or as an older copy of the same generation", operators, func(ctx context.Context, _ *none) (*body[[]StateShown], error) {
		out := []StateShown{}
		for _, a := range s.Enroll.Shown(caller(ctx).Tenant) {
			out = append(out, StateShown{a.VM, a.Host, a.Generation, a.Writes, a.Record, a.RecordWrites, stamp(a.At)})
		}
		return answer(out), nil
	})
	type accept struct {
		Named
		body[AcceptState]
	}
	operation(s, "POST", "/v1/vms/{name}/accept-state", "accept-state", "Accept another state than the one on record, after an older backup was restored", operators, func(ctx context.Context, in *accept) (*body[VM], error) {
		who := caller(ctx)
		v, receipt, err := s.Enroll.AcceptState(ctx, enroll.Acceptance{Tenant: who.Tenant, VM: in.Name, Generation: in.Body.Generation, Writes: in.Body.Writes, Reason: in.Body.Reason, Actor: who.String()})
		out := vmOut(v)
		out.Checkpoint = string(receipt.Checkpoint)
		return answer(out), err
	})
}
