# A step in R (base packages only): a bar chart of what zonal_statistics found, as PDF.
input <- Sys.getenv("EARTHSELF_STEP_INPUT"); output <- Sys.getenv("EARTHSELF_STEP_OUTPUT")

finish <- function(code, status, message, outputs = 0) {
  file <- Sys.getenv("EARTHSELF_STEP_RESULT")
  if (nzchar(file)) {
    writeLines(sprintf('{"status": "%s", "outputs": %d, "message": "%s", "metrics": {}, "warnings": []}', status, outputs, message), file)
  }
  if (code != 0) message(sprintf("error: %s", message))
  quit(status = code)
}

arguments <- commandArgs(trailingOnly = TRUE) # --name value --name value
known <- list(title = "Land cover", top = "10")
while (length(arguments) > 0) {
  name <- sub("^--", "", arguments[1])
  if (!(name %in% names(known)) || length(arguments) < 2) finish(65, "failed", sprintf("chart does not know %s, or it has no value", arguments[1]))
  known[[name]] <- arguments[2]
  arguments <- arguments[-(1:2)]
}
top <- suppressWarnings(as.integer(known$top))
if (is.na(top) || top < 1) finish(65, "failed", sprintf("--top %s is not a whole number above 0", known$top))

table <- file.path(input, "statistics.csv")
if (!file.exists(table)) finish(65, "failed", "the input has no statistics.csv; it must be the output of zonal_statistics")
message("progress 0.10 reading statistics.csv")
areas <- read.csv(table, stringsAsFactors = FALSE)
areas <- head(areas[order(-areas$hectares), ], top)

dir.create(output, showWarnings = FALSE, recursive = TRUE)
part <- file.path(output, ".chart.pdf")
pdf(gsub("%", "%%", part, fixed = TRUE), title = known$title) # pdf() reads % as a format
par(mar = c(5, 12, 4, 2))
barplot(rev(areas$hectares), names.arg = rev(areas$name), horiz = TRUE, las = 1, xlab = "hectares", main = known$title)
invisible(dev.off())
invisible(file.rename(part, file.path(output, "chart.pdf")))
writeLines(sprintf('{"type": "Feature", "stac_version": "1.1.0", "id": "chart", "geometry": null,
 "properties": {"datetime": "%s"}, "links": [{"rel": "root", "href": "./catalog.json"}],
 "assets": {"chart": {"href": "./chart.pdf", "type": "application/pdf", "roles": ["overview"]}}}',
  format(Sys.time(), "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")), file.path(output, "chart.json"))
writeLines('{"type": "Catalog", "stac_version": "1.1.0", "id": "chart", "description": "A chart of the areas",
 "links": [{"rel": "item", "href": "./chart.json", "type": "application/geo+json"}]}', file.path(output, "catalog.json"))
message("progress 1.00 done")
finish(0, "done", sprintf("%d bars", nrow(areas)), 1)
