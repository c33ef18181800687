package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"warder/boot/kernelpkg"
)

// runHere runs the tests that this machine can run: the packages that race
// names under the race detector, the others without.
func runHere(ctx context.Context, o options, report *reporter) (*run, error) {
	r := newRun("here")
	all, err := listPackages(ctx, "", o.packages)
	if err != nil {
		return nil, err
	}
	racy := map[string]bool{}
	if len(o.race) > 0 && haveCgo(ctx) {
		list, err := listPackages(ctx, "", o.race)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			racy[p.ImportPath] = true
		}
	}
	var plain, race []string
	for _, p := range all {
		switch {
		case racy[p.ImportPath]:
			race = append(race, p.ImportPath)
		default:
			plain = append(plain, p.ImportPath)
		}
	}
	if len(plain) > 0 {
		if err := r.goTest(ctx, o, report, "CGO_ENABLED=0", plain...); err != nil {
			return nil, err
		}
	}
	if len(race) > 0 {
		if err := r.goTest(ctx, o, report, "CGO_ENABLED=1", append([]string{"-race"}, race...)...); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *run) goTest(ctx context.Context, o options, report *reporter, env string, args ...string) error {
	args = append([]string{"test", "-json", "-timeout", o.timeout.String()}, args...)
	if o.count != 1 {
		args = append(args, "-count", fmt.Sprint(o.count))
	}
	if o.run != "" {
		args = append(args, "-run", o.run)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(append(os.Environ(), env, kernelpkg.Variable+"="+string(o.kernel)), o.env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := r.consume(out, func(pkg string) { report.packageDone(r, pkg) }); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	// Its exit status only repeats what the events said, unless they said
	// nothing bad.
	if err := cmd.Wait(); err != nil && len(r.failures()) == 0 {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

// haveCgo reports whether a C compiler is there, which the race detector needs.
func haveCgo(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "go", "env", "CC").Output()
	if err != nil {
		return false
	}
	_, err = exec.LookPath(string(out[:max(len(out)-1, 0)]))
	return err == nil
}
