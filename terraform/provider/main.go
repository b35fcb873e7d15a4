// Command provider is terraform-provider-isthmus: peers, exports, imports, intentions
// and traffic policies of a federation as Terraform resources, over its REST API.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/isthmus-mesh/isthmus/terraform/provider/internal/provider"
)

// version is set by the release build (-ldflags -X).
var version = "dev" //nolint:gochecknoglobals // the linker can set nothing else

func main() {
	debug := flag.Bool("debug", false, "wait for a debugger, and print how Terraform finds this process")
	flag.Parse()
	err := providerserver.Serve(context.Background(), provider.New(version), providerserver.ServeOpts{
		Address: provider.Address, Debug: *debug,
	})
	if err != nil {
		log.Fatal(err)
	}
}
