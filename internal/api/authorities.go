package api

import (
	"context"

	"github.com/vouchsafe/vouchsafe/internal/ca"
)

// Authority is the intermediate of one purpose.
type Authority struct {
	PEM string `json:"pem"`
}

func (s *server) authorities() {
	type purpose struct {
		Purpose string `path:"purpose" enum:"vtpm-ek,vm-identity,service-tls,operator,residence"`
	}
	operation(s, "GET", "/v1/authorities/{purpose}", "get-authority", "The intermediate of one purpose: who trusts that purpose alone pins it", everyone, func(ctx context.Context, in *purpose) (*body[Authority], error) {
		a, err := s.Office.Authority(ca.Purpose(in.Purpose))
		if err != nil {
			return nil, err
		}
		return answer(Authority{PEM(a.Certificate)}), nil
	})
}
