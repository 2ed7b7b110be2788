// Holds an HTTP archive against the schemas of HAR 1.2 that `har-validator` has.
const fs = require("fs");
const validate = require("har-validator/lib/promise");

validate.har(JSON.parse(fs.readFileSync(process.argv[2], "utf8"))).then(
  () => console.log("valid"),
  (error) => {
    console.error(JSON.stringify(error.errors || String(error), null, 1));
    process.exit(1);
  },
);
