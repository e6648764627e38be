package enroll

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/vouchsafe/vouchsafe/internal/derive"
	"github.com/vouchsafe/vouchsafe/internal/secret"
)

// Limits of nonces, and why.
const (
	// NonceLife: a guest in an initramfs on a busy machine needs seconds to quote.
	NonceLife = 2 * time.Minute
	// maxUsed: nonces used within their life, 100 bytes each. Beyond this,
	// admissions wait rather than the memory grow.
	maxUsed = 1 << 17
	// NonceSize: random (16) || elapsed (8) || wall (8) || MAC (32).
	NonceSize = 16 + 8 + 8 + sha256.Size
)

// nonces makes nonces that need no memory until they are used: the MAC says
// that they are ours, for whom and since when. They are aged on the monotonic
// clock, so setting the clock back revives none, and die with the process. One
// that the wall clock calls too old is refused as well: after a suspend the
// monotonic clock may have missed some time.
type nonces struct {
	mac   secret.Bytes
	clock Clock

	mu   sync.Mutex
	used map[[16]byte]time.Duration // when it was made
	next time.Duration              // when used is swept again
}

func newNonces(key secret.Bytes, c Clock) *nonces {
	return &nonces{mac: derive.Key(key, derive.NonceMAC, 32), clock: c, used: map[[16]byte]time.Duration{}}
}

// Nonce makes a fresh nonce for one VM and one purpose.
func (e *Enroller) Nonce(tenant, vm, purpose string) []byte {
	n := e.nonces
	b := make([]byte, 16, NonceSize)
	rand.Read(b)
	b = binary.BigEndian.AppendUint64(b, uint64(n.clock.Elapsed()))
	b = binary.BigEndian.AppendUint64(b, uint64(n.clock.Wall().Unix()))
	return append(b, n.sum(b, tenant, vm, purpose)...)
}

func (n *nonces) sum(b []byte, tenant, vm, purpose string) []byte {
	m := hmac.New(sha256.New, n.mac.Reveal())
	m.Write(b)
	m.Write([]byte(derive.Info("", tenant, vm, purpose))) // lengths before parts
	return m.Sum(nil)
}

// use takes a nonce, once.
func (n *nonces) use(nonce []byte, tenant, vm, purpose string) error {
	if len(nonce) != NonceSize {
		return Refusal{"NONCE_FOREIGN", "the nonce is not one of ours"}
	}
	body := nonce[:NonceSize-sha256.Size]
	if !hmac.Equal(nonce[len(body):], n.sum(body, tenant, vm, purpose)) {
		return Refusal{"NONCE_FOREIGN", "the nonce is not one that this service gave this VM for this purpose since it was started"}
	}
	made := time.Duration(binary.BigEndian.Uint64(body[16:]))
	wall := time.Unix(int64(binary.BigEndian.Uint64(body[24:])), 0)
	now := n.clock.Elapsed()
	if now < made || now-made > NonceLife || n.clock.Wall().Sub(wall) > NonceLife {
		return Refusal{"NONCE_STALE", "the nonce is older than " + NonceLife.String()}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if now >= n.next || len(n.used) >= maxUsed {
		for id, made := range n.used {
			if now-made > NonceLife {
				delete(n.used, id)
			}
		}
		n.next = now + NonceLife/2
	}
	id := [16]byte(body)
	if _, again := n.used[id]; again {
		return Refusal{"NONCE_USED", "the nonce was used before: this evidence is a replay"}
	}
	if len(n.used) >= maxUsed {
		return Refusal{"BUDGET_SPENT", "too many admissions at once"}
	}
	n.used[id] = made
	return nil
}
