package api

import (
	"context"
)

// StateAhead is a vTPM's state that was refused as newer than the record.
type StateAhead struct {
	VM         string `json:"vm"`
	Host       string `json:"host"`
	Generation int64  `json:"generation" doc:"of the state that the host has"`
	Record     int64  `json:"record" doc:"the generation on record then"`
	At         string `json:"at"`
}

// AcceptState moves a VM's record forward to a state that its host showed.
type AcceptState struct {
	Generation int64  `json:"generation" minimum:"1"`
	Reason     string `json:"reason" minLength:"1" maxLength:"500"`
}

func (s *server) states() {
	operation(s, "GET", "/v1/states-ahead", "list-states-ahead", "vTPMs whose state was refused as newer than the record within the hour", operators, func(ctx context.Context, _ *none) (*body[[]StateAhead], error) {
		out := []StateAhead{}
		for _, a := range s.Enroll.Ahead(caller(ctx).Tenant) {
			out = append(out, StateAhead{a.VM, a.Host, a.Generation, a.Record, stamp(a.At)})
		}
		return answer(out), nil
	})
	type accept struct {
		Named
		body[AcceptState]
	}
	operation(s, "POST", "/v1/vms/{name}/accept-state", "accept-state", "Accept a newer state after an older backup was restored", operators, func(ctx context.Context, in *accept) (*body[VM], error) {
		who := caller(ctx)
		v, receipt, err := s.Enroll.AcceptState(ctx, who.Tenant, in.Name, in.Body.Generation, in.Body.Reason, who.String())
		out := vmOut(v)
		out.Checkpoint = string(receipt.Checkpoint)
		return answer(out), err
	})
}
