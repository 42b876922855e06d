-- A small dump with made-up clouds, in the tables that sparecores-crawler 0.10.2 makes and as its models write them.
BEGIN TRANSACTION;
CREATE TABLE compliance_framework (
	compliance_framework_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	abbreviation VARCHAR, 
	description VARCHAR, 
	logo VARCHAR, 
	homepage VARCHAR, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_compliance_framework PRIMARY KEY (compliance_framework_id)
);
INSERT INTO "compliance_framework" VALUES('iso27001','ISO/IEC 27001','ISO 27001','.',NULL,NULL,'ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "compliance_framework" VALUES('soc2t2','SOC 2','SOC 2 Type 2','.',NULL,NULL,'ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE country (
	country_id VARCHAR NOT NULL, 
	continent VARCHAR NOT NULL, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	PRIMARY KEY (country_id)
);
INSERT INTO "country" VALUES('FR','Europe','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "country" VALUES('DE','Europe','ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE region (
	vendor_id VARCHAR NOT NULL, 
	region_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	api_reference VARCHAR NOT NULL, 
	display_name VARCHAR NOT NULL, 
	aliases JSON NOT NULL, 
	country_id VARCHAR NOT NULL, 
	state VARCHAR, 
	city VARCHAR, 
	address_line VARCHAR, 
	zip_code VARCHAR, 
	lon FLOAT, 
	lat FLOAT, 
	founding_year INTEGER, 
	green_energy BOOLEAN, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_region PRIMARY KEY (vendor_id, region_id), 
	CONSTRAINT fk_region_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id), 
	CONSTRAINT fk_region_country_id_country FOREIGN KEY(country_id) REFERENCES country (country_id)
);
INSERT INTO "region" VALUES('north','1000','paris','eu-paris','Paris (FR)','["par"]','FR',NULL,'Paris',NULL,NULL,2.35,48.86,NULL,1,'ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "region" VALUES('north','1001','berlin','eu-berlin','Berlin (DE)','[]','DE',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'INACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE server (
	vendor_id VARCHAR NOT NULL, 
	server_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	api_reference VARCHAR NOT NULL, 
	api_reference_object JSON, 
	display_name VARCHAR NOT NULL, 
	description VARCHAR NOT NULL, 
	family VARCHAR, 
	series VARCHAR, 
	vcpus INTEGER NOT NULL, 
	hypervisor VARCHAR, 
	cpu_allocation VARCHAR(9) NOT NULL, 
	cpu_cores INTEGER, 
	cpu_speed FLOAT, 
	cpu_architecture VARCHAR(10) NOT NULL, 
	cpu_manufacturer VARCHAR, 
	cpu_family VARCHAR, 
	cpu_model VARCHAR, 
	cpu_l1d_cache INTEGER, 
	cpu_l1d_cache_total INTEGER, 
	cpu_l1i_cache INTEGER, 
	cpu_l1i_cache_total INTEGER, 
	cpu_l2_cache INTEGER, 
	cpu_l2_cache_total INTEGER, 
	cpu_l3_cache INTEGER, 
	cpu_l3_cache_total INTEGER, 
	cpu_flags JSON NOT NULL, 
	cpus JSON NOT NULL, 
	ecpus FLOAT, 
	scalability FLOAT, 
	hw_virt BOOLEAN, 
	memory_amount INTEGER NOT NULL, 
	memory_amount_actual INTEGER, 
	memory_generation VARCHAR(4), 
	memory_speed INTEGER, 
	memory_ecc BOOLEAN, 
	accelerator_count FLOAT NOT NULL, 
	accelerator_memory_min INTEGER, 
	accelerator_memory_total INTEGER, 
	accelerator_type VARCHAR(3), 
	accelerator_manufacturer VARCHAR, 
	accelerator_family VARCHAR, 
	accelerator_model VARCHAR, 
	accelerators JSON NOT NULL, 
	storage_size INTEGER NOT NULL, 
	storage_type VARCHAR(8), 
	storages JSON NOT NULL, 
	compatible_storage_ids JSON, 
	network_speed_baseline FLOAT, 
	network_speed_max FLOAT, 
	network_storage_speed_baseline FLOAT, 
	network_storage_speed_max FLOAT, 
	inbound_traffic FLOAT NOT NULL, 
	outbound_traffic FLOAT NOT NULL, 
	ipv4 INTEGER NOT NULL, 
	average_time_to_start FLOAT, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_server PRIMARY KEY (vendor_id, server_id), 
	CONSTRAINT fk_server_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id)
);
INSERT INTO "server" VALUES('north','77','s-2','s-2',NULL,'s-2','.',NULL,NULL,2,NULL,'DEDICATED',NULL,NULL,'X86_64','AMD','EPYC','7R13',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','[]',NULL,NULL,NULL,4096,NULL,NULL,NULL,NULL,0.0,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0,NULL,'[]',NULL,0.5,5.0,NULL,NULL,0.0,0.0,0,NULL,'ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server" VALUES('north','78','g-8','g-8',NULL,'g-8','.',NULL,NULL,8,NULL,'DEDICATED',NULL,NULL,'ARM64',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','[]',NULL,NULL,NULL,65536,NULL,NULL,NULL,NULL,0.5,24576,24576,'GPU','NVIDIA','Ampere','A10','[]',450,'NVME_SSD','[]',NULL,NULL,NULL,NULL,NULL,0.0,0.0,0,NULL,'ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server" VALUES('north','79','old','old',NULL,'old','.',NULL,NULL,1,NULL,'SHARED',NULL,NULL,'X86_64',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]','[]',NULL,NULL,NULL,1024,NULL,NULL,NULL,NULL,0.0,NULL,NULL,NULL,NULL,NULL,NULL,'[]',10,'HDD','[]',NULL,NULL,NULL,NULL,NULL,0.0,0.0,0,NULL,'RETIRED','2026-11-01 06:00:00.000000');
CREATE TABLE server_price (
	vendor_id VARCHAR NOT NULL, 
	region_id VARCHAR NOT NULL, 
	zone_id VARCHAR NOT NULL, 
	server_id VARCHAR NOT NULL, 
	operating_system VARCHAR NOT NULL, 
	allocation VARCHAR(8) NOT NULL, 
	unit VARCHAR(8) NOT NULL, 
	price FLOAT NOT NULL, 
	price_upfront FLOAT NOT NULL, 
	price_tiered JSON NOT NULL, 
	currency VARCHAR NOT NULL, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_server_price PRIMARY KEY (vendor_id, region_id, zone_id, server_id, allocation), 
	CONSTRAINT fk_server_price_vendor_id_region FOREIGN KEY(vendor_id, region_id) REFERENCES region (vendor_id, region_id), 
	CONSTRAINT fk_server_price_vendor_id_zone FOREIGN KEY(vendor_id, region_id, zone_id) REFERENCES zone (vendor_id, region_id, zone_id), 
	CONSTRAINT fk_server_price_vendor_id_server FOREIGN KEY(vendor_id, server_id) REFERENCES server (vendor_id, server_id), 
	CONSTRAINT fk_server_price_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id)
);
INSERT INTO "server_price" VALUES('north','1000','1','77','Linux','ONDEMAND','HOUR',0.05,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','2','77','Linux','ONDEMAND','HOUR',0.05,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','1','77','Linux','SPOT','HOUR',0.02,0.0,'[]','EUR','ACTIVE','2026-11-03 09:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','1','78','Linux','ONDEMAND','HOUR',1.25,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','2','78','Windows','ONDEMAND','HOUR',1.75,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','1','78','Linux','RESERVED','MONTH',500.0,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','2','78','Linux','SPOT','HOUR',0.0,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','2','77','Linux','SPOT','HOUR',0.01,0.0,'[]','EUR','INACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1000','1','79','Linux','ONDEMAND','HOUR',0.01,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "server_price" VALUES('north','1001','1','77','Linux','ONDEMAND','HOUR',0.05,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE storage (
	vendor_id VARCHAR NOT NULL, 
	storage_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	description VARCHAR, 
	storage_type VARCHAR(8) NOT NULL, 
	max_iops INTEGER, 
	max_throughput INTEGER, 
	min_size INTEGER, 
	max_size INTEGER, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_storage PRIMARY KEY (vendor_id, storage_id), 
	CONSTRAINT fk_storage_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id)
);
INSERT INTO "storage" VALUES('north','fast','Fast SSD',NULL,'SSD',NULL,NULL,NULL,NULL,'ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE storage_price (
	vendor_id VARCHAR NOT NULL, 
	region_id VARCHAR NOT NULL, 
	storage_id VARCHAR NOT NULL, 
	unit VARCHAR(8) NOT NULL, 
	price FLOAT NOT NULL, 
	price_upfront FLOAT NOT NULL, 
	price_tiered JSON NOT NULL, 
	currency VARCHAR NOT NULL, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_storage_price PRIMARY KEY (vendor_id, region_id, storage_id), 
	CONSTRAINT fk_storage_price_vendor_id_region FOREIGN KEY(vendor_id, region_id) REFERENCES region (vendor_id, region_id), 
	CONSTRAINT fk_storage_price_vendor_id_storage FOREIGN KEY(vendor_id, storage_id) REFERENCES storage (vendor_id, storage_id), 
	CONSTRAINT fk_storage_price_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id)
);
INSERT INTO "storage_price" VALUES('north','1000','fast','GB_MONTH',0.08,0.0,'[]','EUR','ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE traffic_price (
	vendor_id VARCHAR NOT NULL, 
	region_id VARCHAR NOT NULL, 
	direction VARCHAR(3) NOT NULL, 
	unit VARCHAR(8) NOT NULL, 
	price FLOAT NOT NULL, 
	price_upfront FLOAT NOT NULL, 
	price_tiered JSON NOT NULL, 
	currency VARCHAR NOT NULL, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_traffic_price PRIMARY KEY (vendor_id, region_id, direction), 
	CONSTRAINT fk_traffic_price_vendor_id_region FOREIGN KEY(vendor_id, region_id) REFERENCES region (vendor_id, region_id), 
	CONSTRAINT fk_traffic_price_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id)
);
INSERT INTO "traffic_price" VALUES('north','1000','OUT','GB_MONTH',0.09,0.0,'[{"lower": 0.0, "upper": 100.0, "price": 0.0}, {"lower": 100.0, "upper": 10240.0, "price": 0.09}, {"lower": 10240.0, "upper": "Infinity", "price": 0.07}]','USD','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "traffic_price" VALUES('north','1000','IN','GB_MONTH',0.0,0.0,'[]','USD','ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE vendor (
	vendor_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	logo VARCHAR, 
	homepage VARCHAR, 
	country_id VARCHAR NOT NULL, 
	state VARCHAR, 
	city VARCHAR, 
	address_line VARCHAR, 
	zip_code VARCHAR, 
	founding_year INTEGER NOT NULL, 
	status_page VARCHAR, 
	stopped_server_charged BOOLEAN, 
	billing_increment_seconds INTEGER, 
	minimum_billing_seconds INTEGER, 
	billing_comment VARCHAR, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_vendor PRIMARY KEY (vendor_id), 
	CONSTRAINT fk_vendor_country_id_country FOREIGN KEY(country_id) REFERENCES country (country_id)
);
INSERT INTO "vendor" VALUES('north','North Cloud',NULL,'https://north.example','FR',NULL,NULL,NULL,NULL,2015,NULL,NULL,NULL,NULL,NULL,'ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "vendor" VALUES('gone','Gone Cloud',NULL,NULL,'FR',NULL,NULL,NULL,NULL,2009,NULL,NULL,NULL,NULL,NULL,'INACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE vendor_compliance_link (
	vendor_id VARCHAR NOT NULL, 
	compliance_framework_id VARCHAR NOT NULL, 
	comment VARCHAR, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_vendor_compliance_link PRIMARY KEY (vendor_id, compliance_framework_id), 
	CONSTRAINT fk_vendor_compliance_link_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id), 
	CONSTRAINT fk_vendor_compliance_link_compliance_framework_id_compliance_framework FOREIGN KEY(compliance_framework_id) REFERENCES compliance_framework (compliance_framework_id)
);
INSERT INTO "vendor_compliance_link" VALUES('north','iso27001',NULL,'ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "vendor_compliance_link" VALUES('north','soc2t2',NULL,'ACTIVE','2026-11-01 06:00:00.000000');
CREATE TABLE zone (
	vendor_id VARCHAR NOT NULL, 
	region_id VARCHAR NOT NULL, 
	zone_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	api_reference VARCHAR NOT NULL, 
	display_name VARCHAR NOT NULL, 
	status VARCHAR(22) NOT NULL, 
	observed_at DATETIME NOT NULL, 
	CONSTRAINT pk_zone PRIMARY KEY (vendor_id, region_id, zone_id), 
	CONSTRAINT fk_zone_vendor_id_region FOREIGN KEY(vendor_id, region_id) REFERENCES region (vendor_id, region_id), 
	CONSTRAINT fk_zone_vendor_id_vendor FOREIGN KEY(vendor_id) REFERENCES vendor (vendor_id)
);
INSERT INTO "zone" VALUES('north','1000','1','a','eu-paris-a','a','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "zone" VALUES('north','1000','2','b','eu-paris-b','b','ACTIVE','2026-11-01 06:00:00.000000');
INSERT INTO "zone" VALUES('north','1001','1','a','eu-berlin-a','a','ACTIVE','2026-11-01 06:00:00.000000');
COMMIT;
