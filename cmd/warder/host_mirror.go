package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"warder/supervisor/api"
)

func hostMirrorCommand() *cobra.Command {
	f := &serviceFlags{}
	cmd := &cobra.Command{
		Use: "mirror", Short: "Have a host's supervisor replaced by a clean one", Args: cobra.NoArgs,
		Long: `Have the supervisor of a host end, whatever it does, and another one made from the
clean image in its place. Services run on meanwhile, and requests wait. It returns when
the new one answers.`,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, _ []string) error {
			st, err := h.Mirror(ctx)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), st)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "another supervisor answers after %v\n", st.Took.Round(time.Millisecond))
			return err
		}),
	}
	f.addTo(cmd)
	return cmd
}
