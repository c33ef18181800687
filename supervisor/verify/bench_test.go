package verify

import (
	"fmt"
	"testing"

	"warder/supervisor/declaration"
)

// BenchmarkVerify is a request that is permitted and granted, on a machine with
// fifty services.
func BenchmarkVerify(b *testing.B) {
	p, err := ParsePolicy("access.cedar", []byte(policies))
	if err != nil {
		b.Fatal(err)
	}
	l := NewLedger(Capacity{VCPUs: 1000, Memory: 1 << 40, Holders: 100}, nil, 0)
	for i := range 50 {
		if err := l.Grant(fmt.Sprint(i), Claim{VCPUs: 1, Memory: 1 << 28, Things: []Thing{{Kind: "disk", Name: fmt.Sprint(i)}}}); err != nil {
			b.Fatal(err)
		}
	}
	r := Request{Principal: Principal{Name: "bob", Groups: []string{"ops"}}, Action: "start", Service: &declaration.Service{Name: "web"}}
	c := Claim{VCPUs: 1, Memory: 1 << 28, Things: []Thing{{Kind: "disk", Name: "web"}}}
	for b.Loop() {
		if err := p.Permit(r); err != nil {
			b.Fatal(err)
		}
		if err := l.Grant("web", c); err != nil {
			b.Fatal(err)
		}
		l.Return("web")
	}
}
