package verify

import (
	"errors"
	"strings"
	"testing"

	"warder/supervisor/declaration"
)

const policies = `
permit (principal in Group::"ops", action, resource);

@id("own-web")
permit (principal == User::"alice", action in [Action::"start", Action::"stop"], resource == Service::"web");

permit (principal, action == Action::"list", resource == Host::"local");

@id("no-giants")
forbid (principal, action == Action::"start", resource)
when { resource.memory > 1073741824 };

@id("not-nobody")
forbid (principal, action, resource) when { principal.uid == 65534 };
`

func TestPolicy(t *testing.T) {
	p, err := ParsePolicy("access.cedar", []byte(policies))
	if err != nil {
		t.Fatal(err)
	}
	web := &declaration.Service{Name: "web"}
	huge := &declaration.Service{Name: "huge", Memory: declaration.Memory{Start: 1 << 20, Most: 2 << 30}}
	alice, bob := Principal{Name: "alice", UID: 1000}, Principal{Name: "bob", UID: 1001, Groups: []string{"users", "ops"}}
	for _, c := range []struct {
		r    Request
		says string // of the refusal, "" where it is permitted
	}{
		{Request{alice, "start", web}, ""},
		{Request{alice, "exec", web}, "alice may not do this with web: exec (no policy permits it)"},
		{Request{alice, "list", nil}, ""},
		{Request{alice, "resources", nil}, "alice may not do this: resources (no policy permits it)"},
		{Request{bob, "exec", web}, ""},
		{Request{bob, "stop", huge}, ""},
		{Request{bob, "start", huge}, "forbidden by no-giants, line 9"},
		{Request{Principal{Name: "x", UID: 65534, Groups: []string{"ops"}}, "start", huge}, "forbidden by no-giants, line 9, not-nobody, line 13"},
		{Request{Principal{Name: `alice"`, UID: 5}, "start", web}, "no policy permits it"},
	} {
		err := p.Permit(c.r)
		if c.says == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.r, err)
			}
			continue
		}
		if _, ok := errors.AsType[*Denial](err); !ok || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.says)
		}
	}
}

// A policy that cannot be evaluated permits nothing, also one that would forbid.
func TestFailingPolicy(t *testing.T) {
	p, err := ParsePolicy("f", []byte("permit (principal, action, resource);\n@id(\"typo\") forbid (principal, action, resource) when { resource.memroy > 5 };"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Permit(Request{Principal{Name: "a"}, "start", &declaration.Service{Name: "web"}}); err == nil || !strings.Contains(err.Error(), "typo, line 2, fails") {
		t.Errorf("%v", err)
	}
}

func TestBadPolicies(t *testing.T) {
	for src, says := range map[string]string{
		"permit (principal, action resource);":                                                        "access.cedar",
		"@id(\"a\") permit(principal,action,resource); @id(\"a\") forbid(principal,action,resource);": "two policies",
	} {
		if _, err := ParsePolicy("access.cedar", []byte(src)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", src, err)
		}
	}
	p, err := ParsePolicy("empty", nil)
	if err != nil || p.Permit(Request{Principal{Name: "root"}, "list", nil}) == nil {
		t.Errorf("without policies something is permitted: %v", err)
	}
}

// Without any policy a service may look at itself and end itself, and that is all.
func TestSelf(t *testing.T) {
	a, b := &declaration.Service{Name: "a"}, &declaration.Service{Name: "b"}
	var none *Policy
	for name, p := range map[string]*Policy{"": none.WithSelf(), "users": parsed(t, `permit (principal is User, action, resource);`).WithSelf()} {
		for _, action := range []string{"list", "show", "start", "stop", "wait", "logs", "events", "stats", "exec", "attach", "resources"} {
			for _, of := range []*declaration.Service{nil, a, b} {
				err := p.Permit(Request{Principal: Principal{Service: a}, Action: action, Service: of})
				if may := of == a && (action == "show" || action == "stop"); may != (err == nil) {
					t.Errorf("%s of %+v: %v", action, of, err)
				}
			}
		}
		if err := p.Permit(Request{Principal: Principal{Name: "a"}, Action: "show", Service: a}); (err == nil) != (name == "users") {
			t.Errorf("the user of that name: %v", err)
		}
	}
	if err := parsed(t, `forbid (principal, action == Action::"stop", resource);`).WithSelf().Permit(Request{Principal: Principal{Service: a}, Action: "stop", Service: a}); err == nil {
		t.Error("what is forbidden is permitted")
	}
}

func parsed(t *testing.T, src string) *Policy {
	t.Helper()
	p, err := ParsePolicy("p", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
